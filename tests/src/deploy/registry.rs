//! A registry: the real one of crane, behind a proxy that may let each connection wait.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_image::{Named, layout};

use crate::cluster::Program;
use crate::eventually;
use crate::fabric::GATEWAYS;
use crate::kubelets::{Kubelets, images};
use crate::netns::run_command;
use crate::tools::tool;

/// How long the registry may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 5000;
const PROXY_PORT: u16 = 5001;

/// It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    stop: Arc<AtomicBool>,
    _program: Program,
}

impl Registry {
    /// Starts it with Tandem's image under this tag. Each connection waits for this time.
    pub(super) fn with_tandem(kubelets: &Kubelets, tag: &str, delay: Duration) -> Result<Self> {
        match images::own_layout() {
            Some(folder) => Self::with(kubelets, tag, &folder, delay),
            None => Self::start(kubelets, tag, &[images::tandem(tag)?], delay),
        }
    }

    /// Starts it with these images in the place of Tandem's image with this tag.
    pub(super) fn start(kubelets: &Kubelets, tag: &str, images: &[Named], delay: Duration) -> Result<Self> {
        let folder = kubelets.folder().join(format!("registry-{tag}"));
        layout::write(&folder, images)?;
        Self::with(kubelets, tag, &folder, delay)
    }

    /// Starts it beside the API server with the images of this layout, and tells the nodes.
    fn with(kubelets: &Kubelets, tag: &str, folder: &Path, delay: Duration) -> Result<Self> {
        let inside = kubelets.cluster().inside();
        let address = SocketAddr::from((GATEWAYS.0, PORT));
        let mut command = Command::new(tool("crane")?);
        command.args(["registry", "serve", "--address", &address.to_string()]);
        let program = Program::start_command(inside, kubelets.folder(), "registry", command, false)?;
        let answers = || inside.run(|| TcpStream::connect(address)).ok()?.ok();
        eventually(PATIENCE, answers).with_context(|| format!("the registry does not answer after {PATIENCE:?}"))?;

        let mut push = Command::new(tool("crane")?);
        push.args(["push", "--insecure", "--index"])
            .arg(folder)
            .arg(format!("{address}/tandem:{tag}"));
        inside.run(|| run_command(&mut push))??;

        let proxy = SocketAddr::from((GATEWAYS.0, PROXY_PORT));
        let listener = inside
            .run(|| TcpListener::bind(proxy))?
            .context("listen for the nodes")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        inside.entrance().thread("registry", move || {
            for connection in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A thread is in the namespace of the one that starts it.
                thread::spawn(move || pass_on(&connection, address, delay));
            }
        })?;
        for machine in kubelets.machines() {
            machine.use_registry(images::REGISTRY, &proxy.to_string())?;
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
fn pass_on(client: &TcpStream, to: SocketAddr, delay: Duration) -> io::Result<()> {
    thread::sleep(delay);
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
