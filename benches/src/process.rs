//! Server processes, each on one core, and their resource usage.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{self, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cores::spawn,
    servers::{Nginx, Server},
};

/// A server process, which is killed on drop.
#[derive(Debug)]
pub struct Child {
    server: Server,
    port: u16,
    running: ServerProcess,
}

#[derive(Debug)]
enum ServerProcess {
    Own(process::Child),
    Nginx(Nginx),
}

/// The resources that a server has used since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident bytes.
    pub memory: u64,
}

impl Child {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// Fails if the server does not start.
    pub fn start(server: Server) -> io::Result<Self> {
        if server == Server::Nchan {
            let nginx = Nginx::start()?;
            let port = nginx.port;
            return Ok(Self { server, port, running: ServerProcess::Nginx(nginx) });
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--serve", server.slug()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn(&mut command)?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port =
            line.trim().parse().map_err(|_| io::Error::other(format!("{} does not start", server.name())))?;
        Ok(Self { server, port, running: ServerProcess::Own(process) })
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> Server {
        self.server
    }

    /// The loopback address.
    #[must_use]
    pub const fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// The resources used so far, including those of child processes.
    ///
    /// # Errors
    /// Fails if the process has ended.
    pub fn usage(&self) -> io::Result<Usage> {
        let id = match &self.running {
            ServerProcess::Own(process) => process.id(),
            ServerProcess::Nginx(nginx) => nginx.process.id(),
        };
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        let mut usage = Usage::default();
        for id in std::iter::once(id).chain(children) {
            let one = usage_of(id)?;
            usage.cpu += one.cpu;
            usage.memory += one.memory;
        }
        Ok(usage)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let ServerProcess::Own(process) = &mut self.running {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A kill would leave its worker process running.
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn usage_of(id: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default();
    let resident = ticks(21) * rustix::param::page_size() as u64;
    let cpu = (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Usage { cpu: Duration::from_secs_f64(cpu), memory: resident })
}

/// Runs a child: listens, prints the address, and serves until the parent ends.
pub(crate) fn serve(slug: &str) -> io::Result<()> {
    let all = Server::STREAMING.into_iter().chain(Server::ANSWERING);
    let server = all.into_iter().find(|server| server.slug() == slug);
    let server = server.ok_or_else(|| io::Error::other(format!("there is no server {slug}")))?;
    std::thread::spawn(|| {
        // The parent holds the other end, which is closed whenever and however the parent ends.
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // 10,000 clients connect at once.
    rustix::net::listen(&listener, 4096)?;
    say(listener.local_addr()?.port());
    server.serve(listener)
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say(port: u16) {
    println!("{port}");
}
