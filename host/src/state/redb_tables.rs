//! The tables of the file: the pairs, and the bytes that each service uses, which change in the same transactions.

use std::collections::BTreeMap;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::bucket::{BucketId, PAIR_OVERHEAD};

/// (service, bucket, key) to value.
pub(super) const PAIRS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("keyvalue");
/// Service to used bytes.
pub(super) const SIZES: TableDefinition<&str, u64> = TableDefinition::new("sizes");

/// The bytes of a pair that count towards the quota.
pub(super) fn size_of(bucket: &BucketId, key: &str, value: usize) -> u64 {
    (bucket.service.len() + bucket.bucket.len() + key.len() + value + PAIR_OVERHEAD) as u64
}

/// Updates the used bytes of a service after a pair changed from `before` to `after` bytes. Returns false if the
/// service would exceed `quota` and use more than before.
pub(super) fn update_size(
    write: &WriteTransaction,
    service: &str,
    (before, after): (u64, u64),
    quota: u64,
) -> Result<bool, redb::Error> {
    let mut sizes = write.open_table(SIZES)?;
    let used = sizes.get(service)?.map_or(0, |used| used.value());
    let total = used.saturating_sub(before).saturating_add(after);
    if total > quota && total > used {
        return Ok(false);
    }
    match total {
        0 => drop(sizes.remove(service)?),
        total => drop(sizes.insert(service, total)?),
    }
    Ok(true)
}

/// Counts the pairs in the file and corrects the stored sizes if they differ, because the file may have been written by
/// a version that counts differently or not at all.
pub(super) fn count_existing(write: &WriteTransaction) -> Result<(), redb::Error> {
    let mut counted = BTreeMap::<String, u64>::new();
    for entry in write.open_table(PAIRS)?.iter()? {
        let (at, value) = entry?;
        let (service, bucket, key) = at.value();
        let id = BucketId { service: service.into(), bucket: bucket.into() };
        let used = counted.entry(service.to_owned()).or_default();
        *used = used.saturating_add(size_of(&id, key, value.value().len()));
    }
    let mut sizes = write.open_table(SIZES)?;
    let stored: Result<BTreeMap<_, _>, redb::StorageError> =
        sizes.iter()?.map(|entry| entry.map(|(service, size)| (service.value().to_owned(), size.value()))).collect();
    if stored? == counted {
        return Ok(());
    }
    sizes.retain(|_, _| false)?;
    for (service, size) in &counted {
        sizes.insert(service.as_str(), size)?;
    }
    Ok(())
}

/// The bytes that a service uses.
#[cfg(test)]
pub(super) fn used(database: &redb::Database, service: &str) -> Result<u64, redb::Error> {
    use redb::ReadableDatabase as _;
    let sizes = database.begin_read()?.open_table(SIZES)?;
    Ok(sizes.get(service)?.map_or(0, |used| used.value()))
}
