//! A private PostgreSQL cluster on a loopback port, and the real `psql` as the operator's hand.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::Process;
use crate::{free_port, wait_for};

/// Separates columns, rows and nulls in what psql prints: no text in a test holds them.
const COLUMN: char = '\u{1f}';
const ROW: char = '\u{1e}';
const NULL: &str = "\u{1d}";

/// The database that is there from the start.
pub const DATABASE: &str = "market";

/// The password of all roles; it may appear nowhere.
pub const PASSWORD: &str = "hunter2-in-postgres";

/// A running cluster with a role `ingest`, no superuser, that owns its databases.
#[derive(Debug)]
pub struct Postgres {
    /// None after [`Self::kill`].
    server: Option<Process>,
    programs: PathBuf,
    port: u16,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Starts a new cluster; none when PostgreSQL is absent and the run was told to go without, and then it says so.
    ///
    /// # Panics
    /// When it is absent, or does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            if std::env::var_os("WITHOUT_EMULATORS").is_some() {
                eprintln!("LEFT OUT: PostgreSQL (it is absent, and WITHOUT_EMULATORS is set)");
                return None;
            }
            panic!("PostgreSQL: run scripts/postgres, or scripts/test --without-emulators");
        };
        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        run(as_server(&programs.join("initdb"))
            .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres"])
            .args(["--auth=scram-sha-256", "--pwfile"])
            .arg(&password)
            .arg("--pgdata")
            .arg(folder.path().join("data")));
        certify(folder.path());
        let mut cluster = Self { server: None, programs, port: free_port(), folder };
        cluster.restart();
        cluster.psql_as(
            "postgres",
            "postgres",
            &format!(
                "ALTER ROLE postgres PASSWORD '{PASSWORD}'; CREATE ROLE ingest LOGIN PASSWORD '{PASSWORD}';"
            ),
        );
        cluster.create(DATABASE);
        Some(cluster)
    }

    /// Creates a database.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create(&self, database: &str) {
        self.psql_as("postgres", "postgres", &format!("CREATE DATABASE {database} OWNER ingest;"));
    }

    /// Starts the server again on the same port, after [`Self::kill`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        let limit = Duration::from_secs(30);
        let start = Instant::now();
        while start.elapsed() < limit {
            let mut server = Process::spawn(
                as_server(&self.programs.join("postgres"))
                    .arg("-D")
                    .arg(self.folder.path().join("data"))
                    .arg("-k")
                    .arg(self.folder.path().join("data"))
                    .args(["-p", &self.port.to_string()])
                    .args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", "fsync=off"])
                    .args(["-c", "ssl_cert_file=../server.crt", "-c", "ssl_key_file=../server.key"])
                    .args(["-c", "full_page_writes=off", "-c", "timezone=America/New_York"]),
            );
            let up = wait_for("PostgreSQL", limit, || {
                let mut ready = Command::new(self.programs.join("pg_isready"));
                ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
                if ready.status().expect("pg_isready runs").success() {
                    return Some(true);
                }
                (!server.is_running()).then_some(false)
            });
            if up {
                self.server = Some(server);
                return;
            }
            // What a killed server left behind goes on for a moment and keeps the next one from starting.
            assert!(server.stderr().contains("shared memory"), "the server ended: {}", server.stderr());
        }
        panic!("PostgreSQL did not come up within {limit:?}");
    }

    /// Kills the server: no farewell to anybody.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("KILL");
            server.wait_exit(Duration::from_secs(10));
        }
    }

    /// Sends a signal to all of the server's processes, such as `STOP` and `CONT`.
    ///
    /// # Panics
    /// When the server was killed.
    pub fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("a running server");
        // Its own processes are its children; each may end by itself before the signal comes.
        let children =
            Command::new("pgrep").args(["-P", &server.id().to_string()]).output().expect("pgrep runs");
        server.signal(name);
        for child in String::from_utf8_lossy(&children.stdout).lines() {
            let _ = Command::new("kill").args([&format!("-{name}"), child]).status();
        }
    }

    /// `postgres://…` of a database, with the password, for `INGEST_STORE`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as("ingest", database)
    }

    /// The same for another role.
    #[must_use]
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The certificate that vouches for the server.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    /// What psql prints for a script, as it stands.
    ///
    /// # Panics
    /// When psql fails; the message holds what it said.
    pub fn psql(&self, database: &str, script: &str) -> String {
        self.psql_as("ingest", database, script)
    }

    /// Rows of a query, each column as text (null as none).
    ///
    /// # Panics
    /// When psql fails.
    pub fn rows(&self, database: &str, query: &str) -> Vec<Vec<Option<String>>> {
        let script = format!("\\pset null '{NULL}'\n{query};\n");
        let printed = self.psql_with(
            &["-A", "-t", "-F", &COLUMN.to_string(), "-R", &ROW.to_string()],
            "ingest",
            database,
            &script,
        );
        let printed = printed.trim_end_matches('\n');
        if printed.is_empty() {
            return Vec::new();
        }
        let cell = |text: &str| (text != NULL).then(|| text.to_owned());
        printed.split(ROW).map(|row| row.split(COLUMN).map(cell).collect()).collect()
    }

    /// The same as another role, such as the superuser `postgres`.
    ///
    /// # Panics
    /// When psql fails.
    pub fn psql_as(&self, role: &str, database: &str, script: &str) -> String {
        self.psql_with(&[], role, database, script)
    }

    fn psql_with(&self, options: &[&str], role: &str, database: &str, script: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-U", role, "-d", database])
            .args(options)
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        psql.stdin.take().expect("piped").write_all(script.as_bytes()).expect("psql reads");
        let output = psql.wait_with_output().expect("psql runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {said}in: {script}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server
            && server.is_running()
        {
            // Its quickest orderly end, which leaves no shared memory behind.
            server.signal("QUIT");
            let start = Instant::now();
            while server.is_running() && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Where the newest PostgreSQL's programs are.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = std::env::var_os("PATH")?;
    let mut candidates: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    candidates.sort();
    candidates.reverse();
    let found = candidates.into_iter().map(|(_, path)| path).chain(std::env::split_paths(&path));
    let needed = ["initdb", "postgres", "pg_isready", "psql"];
    found.into_iter().find(|folder| needed.iter().all(|program| folder.join(program).exists()))
}

/// The server refuses to run as root; Debian's package brings a user for it.
fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // Where the tests run, that user may not be let in.
    command.current_dir("/");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// Makes a certificate for 127.0.0.1, which the server shows to whoever asks for TLS.
fn certify(folder: &Path) {
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                [name]\nCN = market\n[extensions]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
    std::fs::write(&config, text).expect("a file");
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .arg("-config")
        .arg(&config)
        .arg("-keyout")
        .arg(folder.join("server.key"))
        .arg("-out")
        .arg(folder.join("server.crt")));
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(folder.join("server.key")));
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
