//! The cores of the server and of the load.

use std::{
    io,
    process::{Child, Command},
    sync::OnceLock,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first and the last core that this process may use, for the server and for the load.
static CORES: OnceLock<(usize, usize)> = OnceLock::new();

/// Keeps the load off the server's core if there are two cores.
pub(crate) fn pin_load() -> io::Result<()> {
    pin(cores()?.1)
}

/// Starts a server on its own core, which it inherits from this thread.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    pin(cores()?.0)?;
    let process = command.spawn();
    pin_load()?;
    process
}

fn cores() -> io::Result<(usize, usize)> {
    // Read the cores before the first thread is pinned.
    if let Some(cores) = CORES.get() {
        return Ok(*cores);
    }
    let allowed = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = allowed.next().unwrap_or_default();
    Ok(*CORES.get_or_init(|| (first, allowed.next_back().unwrap_or(first))))
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}
