//! The processes under test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

/// A process that has said where it listens.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    pub(crate) pinned: bool,
    _folder: Option<tempfile::TempDir>,
}

/// The secret that owners of this run sign with.
pub(crate) const OWNER_SECRET: &str = "a benchmark's owner secret, 32 bytes";

impl Process {
    /// The bare proxy: this very program.
    pub(crate) async fn bare(upstream: &str) -> Self {
        let mut command = pinned(std::env::current_exe().unwrap().to_str().unwrap());
        command.1.args(["--bare", upstream]);
        Self::start(command, None)
    }

    /// The edge, everything switched on, over the stores that these settings name; SQLite and memory
    /// without any.
    pub(crate) async fn edge(upstream: &str, stores: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edgeward.toml");
        let toml = format!(
            "[[routes]]\nmatch = \"/v1/\"\nupstream = [\"http://{upstream}\"]\nsensitive = true\nscopes = [\"bench\"]\n"
        );
        std::fs::File::create(&file).unwrap().write_all(toml.as_bytes()).unwrap();
        let mut command = pinned(env!("CARGO_BIN_EXE_edgeward"));
        command.1.arg("serve").arg("--config").arg(&file).arg("--data-dir").arg(folder.path());
        command.1.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        for (name, value) in [
            ("OWNER_JWT_SECRET", OWNER_SECRET),
            ("OWNER_SCOPES", "bench"),
            ("OWNER_MAX_AGENTS", "1000000"),
            ("AGENT_RATELIMIT_PER_SEC", "100000"),
            ("AGENT_RATELIMIT_BURST", "100000"),
            ("AGENT_BACKOFF_FREE", "1000000000"),
            ("EDGE_LOG_FILTER", "warn"),
        ] {
            command.1.env(name, value);
        }
        command.1.envs(stores.iter().cloned());
        Self::start(command, Some(folder))
    }

    fn start((pinned, mut command): (bool, Command), folder: Option<tempfile::TempDir>) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("listening on http://").map(str::to_owned))
            .expect("the process did not say where it listens");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, pinned, _folder: folder }
    }

    /// CPU time of all its threads so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .map(|text| text.split_whitespace().next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On core 0 where that can be said.
fn pinned(program: &str) -> (bool, Command) {
    let can = Command::new("taskset")
        .args(["-c", "0", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !can {
        return (false, Command::new(program));
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]);
    (true, command)
}

/// Load and upstream, which are this process, away from core 0.
pub(crate) fn pin_self() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        let others = format!("1-{}", cores - 1);
        let pid = std::process::id().to_string();
        let _ = Command::new("taskset").args(["-cp", &others, &pid]).stdout(Stdio::null()).status();
    }
}
