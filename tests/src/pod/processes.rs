//! The processes of a test pod. In: names and command lines. Out: their state, their first lines and the
//! last, and the exact time of each signal. Their standard error is the pod's log.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::device::now_ms;

/// Lines of standard output that are kept of each process.
const LINES: usize = 1000;

/// A process to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Its name in this pod.
    pub name: String,
    /// Its command line; a program named `self` is this one.
    pub argv: Vec<String>,
}

/// A process that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Its process id.
    pub pid: i32,
    /// How it ended, if it did.
    pub ended: Option<String>,
    /// Its first lines.
    pub lines: Vec<String>,
    /// Its last line.
    pub last: Option<String>,
}

/// All processes of a pod by name; the last one of each name.
#[derive(Clone, Default)]
pub struct Processes(Arc<Mutex<BTreeMap<String, State>>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, State> {
        self.lock().clone()
    }

    /// Starts one.
    pub fn start(&self, start: Start) -> anyhow::Result<()> {
        let Start { name, argv } = start;
        let running = |state: &State| state.ended.is_none();
        ensure!(
            !self.lock().get(&name).is_some_and(running),
            "{name} is running"
        );
        let (program, arguments) = argv.split_first().context("no program")?;
        let program = if program == "self" {
            std::env::current_exe()?
        } else {
            program.into()
        };
        let mut child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let pid = i32::try_from(child.id().context("it has ended")?)?;
        let output = child.stdout.take().context("no standard output")?;
        let state = State {
            pid,
            ended: None,
            lines: Vec::new(),
            last: None,
        };
        self.lock().insert(name.clone(), state);
        let all = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                all.change(&name, pid, |state| {
                    if state.lines.len() < LINES {
                        state.lines.push(line.clone());
                    }
                    state.last = Some(line);
                });
            }
            let ended = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            all.change(&name, pid, |state| state.ended = Some(ended));
        });
        Ok(())
    }

    fn change(&self, name: &str, pid: i32, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.lock().get_mut(name)
            && state.pid == pid
        {
            change(state);
        }
    }

    /// Sends a signal and returns the time just before, in milliseconds since 1970.
    pub fn signal(&self, name: &str, signal: &str) -> anyhow::Result<u64> {
        let signal = match signal {
            "KILL" => Signal::KILL,
            "TERM" => Signal::TERM,
            "HUP" => Signal::HUP,
            other => anyhow::bail!("{other}: KILL, TERM or HUP"),
        };
        let pid = self
            .lock()
            .get(name)
            .filter(|state| state.ended.is_none())
            .with_context(|| format!("{name} does not run"))?
            .pid;
        let at = now_ms();
        kill_process(Pid::from_raw(pid).context("a process id")?, signal)?;
        Ok(at)
    }
}

/// Kills every process of a container of this node; the time just before, in milliseconds since 1970.
pub fn kill_container(id: &str) -> anyhow::Result<u64> {
    let at = now_ms();
    for pid in in_container(id)? {
        kill_process(Pid::from_raw(pid).context("a process id")?, Signal::KILL)?;
    }
    Ok(at)
}

/// Resident memory of the processes of a container of this node, in KiB.
pub fn resident(id: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in in_container(id)? {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        sum += number.context("VmRSS")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// The processes whose control group has the id of a container in its path, as the kubelet names it.
fn in_container(id: &str) -> anyhow::Result<Vec<i32>> {
    ensure!(id.len() >= 32, "{id:?} is no id of a container");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if groups.contains(id) {
            found.push(pid);
        }
    }
    ensure!(!found.is_empty(), "no process of {id} is visible here");
    Ok(found)
}
