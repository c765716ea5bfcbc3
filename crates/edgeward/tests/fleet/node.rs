//! One node: the program itself, in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use edgeward_admin::AdminClient;
use edgeward_edge::clock::SystemClock;
use edgeward_testkit::{AsDoor, Door, eventually, soon};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running node.
pub(crate) struct Node {
    plan: Plan,
    folder: TempDir,
    child: Child,
    door: Door,
    log: Arc<Mutex<String>>,
}

/// How nodes are started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Settings, as the environment has them.
    pub(crate) env: BTreeMap<String, String>,
    /// The settings file.
    pub(crate) toml: String,
    /// A program to run it under, with its arguments.
    pub(crate) under: Vec<String>,
}

impl Plan {
    /// Sets a setting.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    fn command(&self, folder: &Path) -> Command {
        let program = env!("CARGO_BIN_EXE_edgeward").to_owned();
        let mut words = self.under.iter().cloned().chain([program, "serve".to_owned()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env_clear().envs(&self.env);
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Ok(value) = std::env::var(name) {
                command.env(name, value);
            }
        }
        std::fs::write(folder.join("edgeward.toml"), &self.toml).unwrap();
        command
            .env("EDGE_CONFIG", folder.join("edgeward.toml"))
            .env("EDGE_DATA_DIR", folder.join("data"))
            .env("EDGE_LISTEN", "127.0.0.1:0")
            .env("EDGE_ADMIN_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a node.
    pub(crate) async fn start(&self) -> Node {
        let started = self.try_start().await;
        started.unwrap_or_else(|log| panic!("the node did not start:\n{log}"))
    }

    /// Starts a node that must not come up; what it said.
    pub(crate) async fn refused(&self) -> String {
        self.try_start().await.err().expect("the node started")
    }

    /// Starts a node; what it said when it does not come up.
    pub(crate) async fn try_start(&self) -> Result<Node, String> {
        let folder = tempfile::tempdir().unwrap();
        let (child, door, log) = run(self, folder.path()).await?;
        Ok(Node { plan: self.clone(), folder, child, door, log })
    }
}

/// Starts the program and waits until it listens; what it wrote when it does not.
async fn run(plan: &Plan, folder: &Path) -> Result<(Child, Door, Arc<Mutex<String>>), String> {
    let mut child = plan.command(folder).spawn().unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (written, mut lines) = (Arc::clone(&log), BufReader::new(err).lines());
    let reading = tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = written.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    let mut lines = BufReader::new(out).lines();
    let listening = soon("a node that listens or ends", async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(url) = line.strip_prefix("listening on http://") {
                return Some(url.parse().unwrap());
            }
        }
        None
    })
    .await;
    let Some(address) = listening else {
        reading.await.unwrap();
        return Err(log.lock().unwrap().clone());
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let base_path = plan.env.get("EDGE_BASE_PATH").cloned().unwrap_or_default();
    let clock = Arc::new(SystemClock::new());
    Ok((child, Door { address, base_path, clock }, log))
}

impl Node {
    fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a running node").to_string();
        let done = std::process::Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(done.success());
    }

    /// Stops it in order.
    pub(crate) async fn stop(&mut self) {
        self.signal("-TERM");
        let ended = soon("the end of a node", self.child.wait()).await.unwrap();
        assert!(ended.success(), "{ended}\n{}", *self.log());
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) {
        self.signal("-KILL");
        soon("the end of a node", self.child.wait()).await.unwrap();
    }

    /// SIGSTOP: it stands still where it is.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) {
        soon("the end of a node", self.child.wait()).await.unwrap();
    }

    /// Starts it again on its folder.
    pub(crate) async fn restart(&mut self) {
        let run = run(&self.plan, self.folder.path()).await;
        let (child, door, log) = run.unwrap_or_else(|log| panic!("it did not start:\n{log}"));
        (self.child, self.door, self.log) = (child, door, log);
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> MutexGuard<'_, String> {
        self.log.lock().unwrap()
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its operators' listener, as commands on the machine reach it.
    pub(crate) fn operators(&self) -> AdminClient {
        AdminClient::new(self.data().join("admin/admin.sock"))
    }

    /// `healthz`: its status.
    pub(crate) async fn health(&self) -> String {
        let answer = self.door.get(&self.door.path("/agent/healthz")).await;
        answer.json::<Value>()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until it says that it takes requests.
    pub(crate) async fn takes_requests(&self) {
        eventually("a node that takes requests", async || self.health().await == "ok").await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a node's log:\n{}", *self.log());
        }
    }
}

impl AsDoor for Node {
    fn door(&self) -> Door {
        self.door.clone()
    }
}
