//! A registry that takes its time: the real one of crane, behind a proxy that lets each connection wait.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_image::layout;

use crate::cluster::Program;
use crate::eventually;
use crate::fabric::GATEWAYS;
use crate::kubelets::{Kubelets, images};
use crate::netns::run_command;
use crate::tools::tool;

/// How long each connection waits.
const DELAY: Duration = Duration::from_secs(10);
/// How long the registry may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 5000;
const SLOW_PORT: u16 = 5001;

/// It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    stop: Arc<AtomicBool>,
    _program: Program,
}

impl Registry {
    /// Starts it beside the API server with one image of Tandem, and tells the nodes.
    pub(super) fn start(kubelets: &Kubelets, tag: &str) -> Result<Self> {
        let inside = kubelets.cluster().inside();
        let address = SocketAddr::from((GATEWAYS.0, PORT));
        let mut command = Command::new(tool("crane")?);
        command.args(["registry", "serve", "--address", &address.to_string()]);
        let program = Program::start_command(inside, kubelets.folder(), "registry", command, false)?;
        let answers = || inside.run(|| TcpStream::connect(address)).ok()?.ok();
        eventually(PATIENCE, answers).with_context(|| format!("the registry does not answer after {PATIENCE:?}"))?;

        let folder = if let Some(folder) = images::own_layout() {
            folder
        } else {
            let folder = kubelets.folder().join("registry");
            layout::write(&folder, &[images::tandem(tag)?])?;
            folder
        };
        let mut push = Command::new(tool("crane")?);
        push.args(["push", "--insecure", "--index"])
            .arg(&folder)
            .arg(format!("{address}/tandem:{tag}"));
        inside.run(|| run_command(&mut push))??;

        let slow = SocketAddr::from((GATEWAYS.0, SLOW_PORT));
        let listener = inside
            .run(|| TcpListener::bind(slow))?
            .context("listen for the nodes")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        inside.entrance().thread("slow registry", move || {
            for connection in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A thread is in the namespace of the one that starts it.
                thread::spawn(move || pass_on(&connection, address));
            }
        })?;
        for machine in kubelets.machines() {
            machine.use_registry(images::REGISTRY, &slow.to_string())?;
        }
        Ok(Self {
            stop,
            _program: program,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Its thread waits for one more connection, and ends with this process if none comes.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Passes everything on in both directions, after a while.
fn pass_on(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    thread::sleep(DELAY);
    let server = TcpStream::connect(to)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server));
        copy(&server, client);
    });
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to); // whoever waits at the other end sees that it ended
    let _ = to.shutdown(Shutdown::Write);
}
