//! A real PostgreSQL of our own: Debian's package `postgresql`, on a free port of 127.0.0.1, with its own
//! data, which can be restarted as after a crash. It ends with the test, however that ends.

use std::{
    fs,
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rustix::process::geteuid;
use sqlx::{PgPool, postgres::PgConnectOptions, postgres::PgPoolOptions};

use crate::{kafka::free_ports, wait::wait_for};

const READY: Duration = Duration::from_secs(90);
/// In milliseconds on a data directory that is gone with the test: what survives is what the system has
/// in memory.
const SETTINGS: [&str; 6] = [
    "fsync=off",
    "full_page_writes=off",
    "track_commit_timestamp=on",
    "max_connections=100",
    "shared_buffers=64MB",
    "unix_socket_directories=",
];

/// A server with one database, `postgres`.
pub struct Postgres {
    programs: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    /// A shell that ends the server when its input does.
    guard: Option<Child>,
}

impl Postgres {
    /// Starts one. `None` where PostgreSQL is not installed, which has been said then.
    ///
    /// # Panics
    /// With `CI=true`, when it is not installed; and when it does not start.
    pub async fn start() -> Option<Self> {
        let programs = programs()?;
        let directory = tempfile::Builder::new()
            .prefix("keylane-postgres-")
            .tempdir();
        let directory = directory.expect("a directory for the data");
        let (uid, gid) = owner();
        chown(directory.path(), Some(uid), Some(gid)).expect("the directory has its owner");
        let data = directory.path().join("data");
        let made = Command::new(programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=keylane",
                "--locale=C",
                "--encoding=UTF8",
                "-D",
            ])
            .arg(&data)
            .uid(uid)
            .gid(gid)
            .current_dir(directory.path())
            .output()
            .expect("initdb starts");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut server = Self {
            programs,
            port: free_ports(1).expect("a free port")[0],
            directory,
            guard: None,
        };
        server.run().await;
        Some(server)
    }

    /// `host=… port=…` as a URL, without a password.
    pub fn url(&self) -> String {
        format!("postgres://keylane@127.0.0.1:{}/postgres", self.port)
    }

    /// A pool with at most so many connections.
    pub fn pool(&self, connections: u32) -> PgPool {
        let options: PgConnectOptions = self.url().parse().expect("a url");
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(READY)
            .connect_lazy_with(options)
    }

    /// Ends the server at once, without a farewell to its clients, and starts it again on its data.
    pub async fn restart(&mut self) {
        self.end();
        self.run().await;
    }

    async fn run(&mut self) {
        let (uid, gid) = owner();
        let log = self.directory.path().join("log");
        let file = fs::File::options().create(true).append(true).open(&log);
        let file = file.expect("a log file");
        let mut command = Command::new("sh");
        command
            .args(["-c", "\"$@\" & read -r _; kill -QUIT $!; wait", "sh"])
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                &format!("port={}", self.port),
            ]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let guard = command
            .uid(uid)
            .gid(gid)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("postgres starts");
        self.guard = Some(guard);
        let pool = self.pool(1);
        wait_for(
            &format!("postgres answers ({})", log.display()),
            READY,
            async || sqlx::query("select 1").execute(&pool).await.ok(),
        )
        .await;
        pool.close().await;
    }

    fn end(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// PostgreSQL refuses to run as root.
fn owner() -> (u32, u32) {
    let own = geteuid();
    if !own.is_root() {
        return (own.as_raw(), rustix::process::getegid().as_raw());
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let postgres = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some("postgres");
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        is_it.then_some((uid, gid))
    });
    // nobody, where the package has made no user.
    postgres.unwrap_or((65_534, 65_534))
}

/// Where its programs are: in `POSTGRES_BIN`, on the path, or where Debian has them.
fn programs() -> Option<PathBuf> {
    static SAID: OnceLock<()> = OnceLock::new();
    let of_variable = std::env::var_os("POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut of_debian: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    of_debian.sort();
    let found = of_variable
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(of_debian.into_iter().rev())
        .find(|directory: &PathBuf| has_all(directory));
    if found.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !ci,
            "PostgreSQL is required where CI=true: install Debian's package postgresql"
        );
        SAID.get_or_init(|| {
            let reason = "initdb and postgres are neither in POSTGRES_BIN, nor on the path, nor in /usr/lib/postgresql";
            let _ = writeln!(std::io::stderr(), "SKIPPED, no PostgreSQL: {reason}");
        });
    }
    found
}

fn has_all(directory: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|it| directory.join(it).is_file())
}
