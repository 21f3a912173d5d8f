//! nginx with nchan, in its own folder.

use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::cores::spawn;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
const NGINX: &str = "/usr/sbin/nginx";

/// The number of attempts to connect after the start.
const MAX_CONNECT_ATTEMPTS: usize = 250;

/// A running nginx process.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) process: std::process::Child,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

impl Nginx {
    pub(crate) fn is_installed() -> bool {
        Path::new(MODULE).exists() && Path::new(NGINX).exists()
    }

    /// Starts nginx with one worker.
    pub(crate) fn start() -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("faststate-bench-nchan-{port}"));
        fs::create_dir_all(&folder)?;
        let at = folder.display();
        fs::write(
            folder.join("nginx.conf"),
            format!(
                "load_module {MODULE};\nuser root;\ndaemon off;\npid {at}/pid;\nerror_log {at}/error.log;\n\
                 worker_processes 1;\nworker_rlimit_nofile 20000;\n\
                 events {{ worker_connections 15000; }}\n\
                 http {{\n  access_log off;\n  client_body_temp_path {at};\n  keepalive_requests 1000000;\n\
                 server {{\n    listen 127.0.0.1:{port} backlog=4096;\n\
                 location = /follow {{ nchan_subscriber eventsource; nchan_channel_id board; nchan_subscriber_first_message newest; }}\n\
                 location = /publish {{ nchan_publisher; nchan_channel_id board; nchan_message_buffer_length 100; }}\n  }}\n}}\n"
            ),
        )?;
        let mut command = Command::new(NGINX);
        command.args(["-p", &folder.to_string_lossy(), "-c", "nginx.conf"]);
        let process = spawn(command.stdin(Stdio::null()).stderr(Stdio::null()))?;
        let nginx = Self { process, port, folder };
        for _ in 0..MAX_CONNECT_ATTEMPTS {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(nginx);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(nginx.folder.join("error.log")).unwrap_or_default();
        Err(io::Error::other(format!("nginx does not listen: {log}")))
    }
}
