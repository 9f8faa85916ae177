//! The programs that members run: that of this version, and that of a version before it, built from
//! its commit.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

/// The program of a member, beside the one that starts it.
const MEMBER: &str = "chaos-member";

/// Which version of keylane a member runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// The one that this program was built from.
    This,
    /// The one before it.
    Before,
}

/// The members' programs.
#[derive(Debug, Clone)]
pub struct Programs {
    this: PathBuf,
    before: Option<PathBuf>,
}

impl Programs {
    /// The program of this version alone.
    ///
    /// # Errors
    /// When it is not beside the one that runs.
    pub fn of_this_version() -> io::Result<Self> {
        let here = std::env::current_exe()?;
        // A test's program lies one directory deeper than the programs.
        let found = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|directory| directory.join(MEMBER))
            .find(|path| path.is_file());
        let this = found.ok_or_else(|| {
            io::Error::other(format!(
                "there is no {MEMBER} beside {}: build the whole package",
                here.display()
            ))
        })?;
        Ok(Self { this, before: None })
    }

    /// Builds both: this version from the files as they are, the one before from its commit.
    ///
    /// # Errors
    /// When one of them cannot be built.
    pub fn build(before: &Commit) -> io::Result<Self> {
        let workspace = workspace();
        let place = Place::of_this_program()?;
        let kept = place
            .target
            .join("upgrade")
            .join(format!("{}-{}", &before.hash, place.profile));
        let program = kept.join(MEMBER);
        if !program.is_file() {
            let source = kept.join("source");
            fs::create_dir_all(&source)?;
            unpack(&workspace, before, &source)?;
            // With a target directory of its own. In a shared one cargo distinguishes packages by
            // their place in the workspace, and detects changes by the files' times. It would take
            // this version's for those of that commit.
            let own = Place {
                target: kept.join("target"),
                profile: place.profile.clone(),
            };
            own.build(&source)?;
            fs::copy(own.member(), &program)?;
            fs::remove_dir_all(&source)?;
            fs::remove_dir_all(&own.target)?;
        }
        place.build(&workspace)?;
        let this = place
            .target
            .join("upgrade")
            .join(format!("this-{}", place.profile));
        fs::create_dir_all(&this)?;
        fs::copy(place.member(), this.join(MEMBER))?;
        Ok(Self {
            this: this.join(MEMBER),
            before: Some(program),
        })
    }

    /// The program of that version; this version's where there is no other.
    pub fn of(&self, version: Version) -> &Path {
        match version {
            Version::This => &self.this,
            Version::Before => self.before.as_ref().unwrap_or(&self.this),
        }
    }

    /// Whether the two versions are one and the same program.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn are_the_same(&self) -> io::Result<bool> {
        Ok(fs::read(self.of(Version::This))? == fs::read(self.of(Version::Before))?)
    }
}

/// A commit of this repository.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its full hash.
    pub hash: String,
}

impl Commit {
    /// The one that a tag, a branch or a part of a hash names.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(revision: &str) -> io::Result<Self> {
        let commit = format!("{revision}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ];
        let output = Command::new("git")
            .current_dir(workspace())
            .args(arguments)
            .output()?;
        let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || hash.is_empty() {
            return Err(io::Error::other(format!(
                "{revision} is no commit of this repository"
            )));
        }
        Ok(Self { hash })
    }
}

/// How this version is called: its tag or commit, and where the files differ from it a number that
/// stands for how.
///
/// # Errors
/// When git cannot be run.
pub fn name_of_this() -> io::Result<String> {
    let git = |arguments: &[&str]| {
        Command::new("git")
            .current_dir(workspace())
            .args(arguments)
            .output()
    };
    let name = git(&["describe", "--always", "--tags", "--dirty", "--abbrev=12"])?;
    let name = String::from_utf8_lossy(&name.stdout).trim().to_owned();
    if !name.ends_with("-dirty") {
        return Ok(name);
    }
    let mut differences = DefaultHasher::new();
    git(&["diff", "HEAD"])?.stdout.hash(&mut differences);
    Ok(format!("{name}-{:016x}", differences.finish()))
}

/// Where a program is built, and how: the others are built as this one was.
struct Place {
    target: PathBuf,
    profile: String,
}

impl Place {
    fn of_this_program() -> io::Result<Self> {
        let here = std::env::current_exe()?;
        let directory = here
            .parent()
            .filter(|directory| !directory.ends_with("deps"));
        let profile = directory
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        match (directory.and_then(Path::parent), profile) {
            (Some(target), Some(profile)) => Ok(Self {
                target: target.to_owned(),
                profile: profile.to_owned(),
            }),
            _ => Err(io::Error::other(format!(
                "{} does not lie in a target directory",
                here.display()
            ))),
        }
    }

    fn member(&self) -> PathBuf {
        self.target.join(&self.profile).join(MEMBER)
    }

    fn build(&self, workspace: &Path) -> io::Result<()> {
        let profile = if self.profile == "debug" {
            "dev"
        } else {
            &self.profile
        };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(workspace).args([
            "build",
            "--locked",
            "-p",
            "keylane-chaos",
            "--bin",
            MEMBER,
        ]);
        build
            .args(["--profile", profile, "--target-dir"])
            .arg(&self.target);
        succeeds(&mut build)
    }
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a commit. Not as a worktree, which would have to be removed with git.
fn unpack(workspace: &Path, commit: &Commit, into: &Path) -> io::Result<()> {
    let tar = into.with_extension("tar");
    let mut archive = Command::new("git");
    archive
        .current_dir(workspace)
        .args(["archive", "--format=tar", "--output"])
        .arg(&tar)
        .arg(&commit.hash);
    succeeds(&mut archive)?;
    succeeds(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(into))?;
    fs::remove_file(tar)
}

fn succeeds(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?}: {status}")))
    }
}
