//! `benchmarks/ruststream`: a crate outside of the workspace, because ruststream needs a newer Rust
//! than keylane.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cache, step};

/// The oldest Rust that ruststream takes.
const TOOLCHAIN: (u32, u32) = (1, 95);

pub(super) fn build() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("ruststream");
    let target = cache("ruststream")?;
    let mut cargo = toolchain()?;
    cargo
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    step("cargo build of benchmarks/ruststream", &mut cargo)?;
    Ok(target.join("release/keylane-benchmarks-ruststream"))
}

/// A cargo that is new enough: the one on the path, or one that rustup has.
fn toolchain() -> Result<Command, String> {
    let plain = Command::new("rustc")
        .env_remove("RUSTUP_TOOLCHAIN")
        .arg("--version")
        .output();
    let version = plain
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    if version
        .split(' ')
        .nth(1)
        .and_then(minor)
        .is_some_and(|version| version >= TOOLCHAIN)
    {
        return Ok(Command::new("cargo"));
    }
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let listed = listed
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let found = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .find(|name| minor(name).is_some_and(|version| version >= TOOLCHAIN));
    let name = found.ok_or_else(|| {
        format!(
            "needs Rust {}.{}, there is {}",
            TOOLCHAIN.0,
            TOOLCHAIN.1,
            version.trim()
        )
    })?;
    let mut cargo = Command::new("cargo");
    cargo.arg(format!("+{name}"));
    Ok(cargo)
}

/// The first two numbers of a version or a toolchain's name.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn versions_are_told_from_channels() {
        assert_eq!(minor("1.95.0-x86_64-unknown-linux-gnu"), Some((1, 95)));
        assert_eq!(minor("1.88.0"), Some((1, 88)));
        assert_eq!(minor("nightly-x86_64-unknown-linux-gnu"), None);
    }
}
