//! A world for tests: sites on this machine, and people with a command line, each with a home of their own.
//!
//! A site listens on a port that the system chose, and is known by the line that it prints when it is ready.
//! Nothing outlives its test: children are ended when their handle is dropped.

pub(crate) mod model;
pub(crate) mod safetensors;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const WAAG: &str = env!("CARGO_BIN_EXE_waag");

/// Returns a command that knows nothing of the environment that the tests run in.
fn waag(home: &Path) -> Command {
    let mut command = Command::new(WAAG);
    command
        .env_clear()
        .env("HOME", home)
        .env("WAAG_HOME", home.join("waag"));
    // Whoever has authorities of their own at home believes those: in a command, and where a site asks others.
    let authorities = home.join("authorities.pem");
    if authorities.exists() {
        command
            .env("WAAG_CA", &authorities)
            .env("SSL_CERT_FILE", &authorities);
    }
    command.stdin(Stdio::null());
    command
}

/// A running site.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) fingerprint: String,
    pub(crate) data: PathBuf,
    child: Child,
    /// What it says on standard error, shown when the test fails.
    log: PathBuf,
    // Closed only at the end: a site that prints into a closed pipe would not be the one that is tested.
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Site {
    /// Starts a site on this data directory and waits until it says that it listens.
    pub(crate) fn serve(data: &Path) -> Self {
        Self::serve_with(data, &[])
    }

    pub(crate) fn serve_with(data: &Path, more: &[&str]) -> Self {
        // Unless a test says otherwise, nothing but what people do gets into the ledger.
        fs::create_dir_all(data).unwrap();
        if !data.join("waag.toml").exists() {
            fs::write(data.join("waag.toml"), "[weigh]\non = false\n").unwrap();
        }
        Self::start(data, more)
    }

    /// Starts a site with all that is on unless somebody turns it off.
    pub(crate) fn serve_as_it_comes(data: &Path) -> Self {
        Self::start(data, &[])
    }

    fn start(data: &Path, more: &[&str]) -> Self {
        let log = data.with_added_extension("log");
        let mut child = waag(data.parent().unwrap())
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(if more.contains(&"--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .args(more)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut fingerprint) = (String::new(), String::new());
        let url = loop {
            line.clear();
            if stdout.read_line(&mut line).unwrap() == 0 {
                panic!(
                    "the site ended before it listened: {}",
                    fs::read_to_string(&log).unwrap()
                );
            }
            if let Some(said) = line.strip_prefix("fingerprint ") {
                fingerprint = said.trim().to_owned();
            }
            if let Some(url) = line.trim_end().strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Self {
            url,
            fingerprint,
            data: data.to_owned(),
            child,
            log,
            _stdout: stdout,
        }
    }

    /// Returns where the first admin token is.
    pub(crate) fn admin_token(&self) -> PathBuf {
        self.data.join("admin-token")
    }

    /// Asks the site to end, as a service manager does, and waits until it has.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &pid])
            .status()
            .unwrap();
        assert!(asked.success());
        assert!(
            self.child.wait().unwrap().success(),
            "the site did not end in order"
        );
    }

    /// Ends the site as a power cut would end its process: at once, whatever it was doing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads one of the site's counters.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = answer.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {answer}"));
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Returns the bytes of chunks that the site has received since it started.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.metric("waag_chunk_received_bytes_total")
    }
}

#[allow(clippy::print_stderr, reason = "this is where a test that fails says why")]
impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Ok(said) = fs::read_to_string(&self.log)
        {
            eprintln!("{}: {said}", self.url);
        }
    }
}

/// Somebody with a command line.
pub(crate) struct Person {
    home: TempDir,
}

/// What a command answered.
pub(crate) struct Answer {
    command: String,
    output: Output,
}

impl Person {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Somebody who has logged in with this token file and has a key.
    pub(crate) fn at(site: &Site, token: &Path) -> Self {
        let person = Self::new();
        person
            .run(["login", &site.url, "--token-file", token.to_str().unwrap()])
            .ok();
        person.run(["key", "generate", "--no-passphrase"]).ok();
        person
    }

    /// The operator of a site, with the admin token and a key.
    pub(crate) fn operating(site: &Site) -> Self {
        Self::at(site, &site.admin_token())
    }

    /// Somebody else with the same key and the same token, on another machine.
    pub(crate) fn colleague(&self) -> Self {
        let other = Self::new();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(self.desk().join("waag"))
            .arg(other.desk().join("waag"))
            .status()
            .unwrap();
        assert!(copied.success());
        other
    }

    /// Returns a directory of the person's own.
    pub(crate) fn desk(&self) -> &Path {
        self.home.path()
    }

    /// Runs a command; nobody is there to be asked.
    pub(crate) fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Answer {
        self.run_with(arguments, b"")
    }

    /// Runs a command with this on its standard input.
    pub(crate) fn run_with<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
        input: &[u8],
    ) -> Answer {
        let mut command = waag(self.desk());
        command.args(arguments);
        self.answer(command, input)
    }

    /// Starts a command, and kills it as a power cut would once it has said this on standard error.
    pub(crate) fn kill_after<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>, said: &str) {
        let mut command = waag(self.desk());
        command.args(arguments).current_dir(self.desk());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let found = lines.map(Result::unwrap).any(|line| line.contains(said));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found, "nothing was said of {said}");
    }

    /// Runs a line of a shell, in which `$0` is the program.
    pub(crate) fn run_shell(&self, line: &str) -> Answer {
        let program = waag(self.desk());
        let mut command = Command::new("bash");
        command.args(["-c", line]).arg(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.answer(command, b"")
    }

    fn answer(&self, mut command: Command, input: &[u8]) -> Answer {
        command.current_dir(self.desk());
        let shown = format!("{command:?}");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin: ChildStdin = child.stdin.take().unwrap();
        feed(stdin, input);
        Answer {
            output: child.wait_with_output().unwrap(),
            command: shown,
        }
    }

    pub(crate) fn create_namespace(&self, name: &str) {
        self.run(["namespace", "create", name]).ok();
    }

    /// Pushes, and returns the answer's object.
    pub(crate) fn push(&self, path: &Path, target: &str) -> Value {
        self.try_push(path, target, &[]).json()
    }

    pub(crate) fn try_push(&self, path: &Path, target: &str, more: &[&str]) -> Answer {
        let words = [
            OsStr::new("push"),
            path.as_os_str(),
            OsStr::new(target),
            OsStr::new("--json"),
        ];
        self.run(words.into_iter().chain(more.iter().map(OsStr::new)))
    }

    pub(crate) fn pull(&self, reference: &str, directory: &Path) -> Answer {
        let words = [
            OsStr::new("pull"),
            OsStr::new(reference),
            directory.as_os_str(),
            OsStr::new("--json"),
        ];
        self.run(words)
    }

    /// Pulls, and replaces files that were changed.
    pub(crate) fn mend(&self, reference: &str, directory: &Path) -> Answer {
        let words = [
            OsStr::new("pull"),
            OsStr::new(reference),
            directory.as_os_str(),
            OsStr::new("--force"),
            OsStr::new("--json"),
        ];
        self.run(words)
    }

    pub(crate) fn verify(&self, directory: &Path) -> Answer {
        self.run([OsStr::new("verify"), directory.as_os_str(), OsStr::new("--json")])
    }

    /// Makes a token, and returns the file in which its secret is.
    pub(crate) fn make_token(&self, label: &str, more: &[&str]) -> PathBuf {
        let secret = self.run(["token", "create", label, "-q"].iter().chain(more)).ok();
        let path = self.desk().join(format!("token-{label}"));
        fs::write(&path, secret).unwrap();
        path
    }

    /// Returns all that this person can see of what publishers have had recorded.
    pub(crate) fn recorded(&self) -> Vec<Value> {
        let show = |name: String| self.run(["show", &name, "--json"]).json();
        self.list().into_iter().map(show).collect()
    }

    /// Returns the names that `waag list` shows.
    pub(crate) fn list(&self) -> Vec<String> {
        let answer = self.run(["list", "--json"]).json();
        let artifacts = answer["artifacts"].as_array().unwrap();
        artifacts
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Whoever does not read its input closes it.
fn feed(mut stdin: ChildStdin, input: &[u8]) {
    let _ = stdin.write_all(input);
}

impl Answer {
    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// Expects success, and returns standard output.
    pub(crate) fn ok(&self) -> String {
        assert_eq!(self.code(), 0, "{}\n{}", self.command, self.stderr());
        self.stdout()
    }

    /// Expects failure with this exit code, and returns what it says of it.
    pub(crate) fn failed(&self, code: i32) -> String {
        assert_eq!(
            self.code(),
            code,
            "{}\n{}\n{}",
            self.command,
            self.stdout(),
            self.stderr()
        );
        self.stderr()
    }

    /// Expects success and exactly one JSON object on one line.
    pub(crate) fn json(&self) -> Value {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "{}\n{text}", self.command);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_object(), "{text}");
        value
    }

    /// Expects failure with this exit code and, as `--json` asks, one error object on standard error and
    /// nothing on standard output. Returns the error.
    pub(crate) fn error(&self, code: i32) -> Value {
        assert_eq!(
            self.code(),
            code,
            "{}\n{}\n{}",
            self.command,
            self.stdout(),
            self.stderr()
        );
        assert_eq!(self.stdout(), "", "{}", self.command);
        let text = self.stderr();
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", self.command));
        value["error"].clone()
    }
}

/// Returns all files below a directory but those under `.waag`, as sorted relative paths.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path == root.join(".waag") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// Asserts what `diff -r --exclude .waag` would say nothing about.
pub(crate) fn assert_same_files(left: &Path, right: &Path) {
    assert_eq!(files_below(left), files_below(right));
    for file in files_below(left) {
        assert!(
            same_bytes(&left.join(&file), &right.join(&file)),
            "{} differs",
            file.display()
        );
    }
}

fn same_bytes(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| File::open(path).unwrap();
    let (mut left, mut right) = (open(left), open(right));
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let (read_a, read_b) = (fill(&mut left, &mut a), fill(&mut right, &mut b));
        if read_a != read_b || a[..read_a] != b[..read_b] {
            return false;
        }
        if read_a == 0 {
            return true;
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).unwrap() {
            0 => break,
            read => filled += read,
        }
    }
    filled
}

/// Flips one bit in the middle of a file.
pub(crate) fn flip_a_bit(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(path, permissions).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
