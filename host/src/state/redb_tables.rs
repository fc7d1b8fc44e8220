//! The tables of the file: the pairs, and how many bytes each service keeps, which changes in the transactions that change
//! the pairs.

use std::collections::BTreeMap;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::bucket::{BucketId, OVERHEAD};

/// (service, bucket, key) to value.
pub(super) const TABLE: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("keyvalue");
/// Service to bytes.
pub(super) const SIZES: TableDefinition<&str, u64> = TableDefinition::new("sizes");

/// What a pair counts as.
pub(super) fn size_of(bucket: &BucketId, key: &str, value: usize) -> u64 {
    (bucket.service.len() + bucket.bucket.len() + key.len() + value + OVERHEAD) as u64
}

/// Counts what a service keeps after a pair of `before` bytes became one of `after`. False where it may not: it would be
/// over `room`, and more than it was.
pub(super) fn count(
    write: &WriteTransaction,
    service: &str,
    (before, after): (u64, u64),
    room: u64,
) -> Result<bool, redb::Error> {
    let mut sizes = write.open_table(SIZES)?;
    let taken = sizes.get(service)?.map_or(0, |taken| taken.value());
    let total = taken.saturating_sub(before).saturating_add(after);
    if total > room && total > taken {
        return Ok(false);
    }
    match total {
        0 => drop(sizes.remove(service)?),
        total => drop(sizes.insert(service, total)?),
    }
    Ok(true)
}

/// Counts everything that is in the file, and corrects the sizes if they differ: a host that counts nothing, or counts
/// otherwise, may have written it last.
pub(super) fn count_anew(write: &WriteTransaction) -> Result<(), redb::Error> {
    let mut counted = BTreeMap::<String, u64>::new();
    for entry in write.open_table(TABLE)?.iter()? {
        let (at, value) = entry?;
        let (service, bucket, key) = at.value();
        let id = BucketId { service: service.into(), bucket: bucket.into() };
        let taken = counted.entry(service.to_owned()).or_default();
        *taken = taken.saturating_add(size_of(&id, key, value.value().len()));
    }
    let mut sizes = write.open_table(SIZES)?;
    let kept: Result<BTreeMap<_, _>, redb::StorageError> =
        sizes.iter()?.map(|entry| entry.map(|(service, size)| (service.value().to_owned(), size.value()))).collect();
    if kept? == counted {
        return Ok(());
    }
    sizes.retain(|_, _| false)?;
    for (service, size) in &counted {
        sizes.insert(service.as_str(), size)?;
    }
    Ok(())
}

/// What a service keeps.
#[cfg(test)]
pub(super) fn taken(database: &redb::Database, service: &str) -> Result<u64, redb::Error> {
    use redb::ReadableDatabase as _;
    let sizes = database.begin_read()?.open_table(SIZES)?;
    Ok(sizes.get(service)?.map_or(0, |taken| taken.value()))
}
