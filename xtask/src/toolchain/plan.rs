//! Decides where the guest target comes from, without side effects, so that each case can be tested.

/// What rustup may do on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rustup {
    /// rustup is not installed.
    Absent,
    /// rustup may download targets.
    MayInstall,
    /// `RUSTUP_AUTO_INSTALL=0`: the user does not want downloads.
    MustNotInstall,
}

/// The state of the distribution's own toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// It has the targets.
    Ready,
    /// Its packages and the targets can be installed.
    Buildable(Privilege),
    /// They can be installed, but not by this user.
    NeedsRoot,
    /// There is no apt-get: this is not Debian.
    Foreign,
}

/// How to write files outside the user's home folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process runs as root.
    Root,
    /// `sudo` needs no password.
    Sudo,
}

/// What to do if the current toolchain lacks the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    AddWithRustup,
    UseDistribution,
    BuildFromDistribution(Privilege),
    Explain(String),
}

/// rustup if it may; else the distribution's toolchain; else the message.
pub(crate) fn decide(rustup: Rustup, distribution: Distribution) -> Plan {
    match (rustup, distribution) {
        (Rustup::MayInstall, _) => Plan::AddWithRustup,
        (_, Distribution::Ready) => Plan::UseDistribution,
        (_, Distribution::Buildable(privilege)) => Plan::BuildFromDistribution(privilege),
        (_, Distribution::NeedsRoot) => Plan::Explain(explain(rustup, AS_ROOT)),
        (_, Distribution::Foreign) => Plan::Explain(explain(rustup, ELSEWHERE)),
    }
}

const AS_ROOT: &str = "On this Debian, run `cargo xtask toolchain` once as root: it builds the target from packages.";
const ELSEWHERE: &str = "If rustup cannot be used, install the target for your rustc from your distribution.";

fn explain(rustup: Rustup, otherwise: &str) -> String {
    let cure = match rustup {
        Rustup::Absent => "Install rustup (https://rustup.rs) and run `rustup target add wasm32-wasip2 wasm32-wasip1`.",
        Rustup::MayInstall | Rustup::MustNotInstall => {
            "Run `rustup target add wasm32-wasip2 wasm32-wasip1`, which is not done automatically while RUSTUP_AUTO_INSTALL is 0."
        }
    };
    format!("this Rust toolchain cannot build components: it has no wasm32-wasip2 target.\n  {cure}\n  {otherwise}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustup_adds_the_target_if_it_may() {
        assert_eq!(decide(Rustup::MayInstall, Distribution::Foreign), Plan::AddWithRustup);
        assert_eq!(decide(Rustup::MayInstall, Distribution::Ready), Plan::AddWithRustup);
    }

    #[test]
    fn the_distribution_is_used_if_rustup_must_not_install() {
        let root = Distribution::Buildable(Privilege::Root);
        assert_eq!(decide(Rustup::MustNotInstall, root), Plan::BuildFromDistribution(Privilege::Root));
        assert_eq!(decide(Rustup::MustNotInstall, Distribution::Ready), Plan::UseDistribution);
    }

    #[test]
    fn the_distribution_is_used_without_rustup() {
        let sudo = Distribution::Buildable(Privilege::Sudo);
        assert_eq!(decide(Rustup::Absent, sudo), Plan::BuildFromDistribution(Privilege::Sudo));
        assert_eq!(decide(Rustup::Absent, Distribution::Ready), Plan::UseDistribution);
    }

    #[test]
    fn the_message_explains_what_to_do_if_nothing_is_possible() {
        let Plan::Explain(text) = decide(Rustup::MustNotInstall, Distribution::NeedsRoot) else { panic!() };
        assert!(text.contains("rustup target add") && text.contains("as root"), "{text}");
        let Plan::Explain(text) = decide(Rustup::Absent, Distribution::Foreign) else { panic!() };
        assert!(text.contains("https://rustup.rs") && text.contains("distribution"), "{text}");
    }
}
