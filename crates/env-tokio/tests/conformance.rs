//! The conformance suite in the real world: every test in a directory and a set of shards of its own.

use std::{
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use quipu_conformance::{World, conformance_tests, find};
use quipu_env_tokio::{Options, TokioEnv};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType},
};

conformance_tests!(crate::run);

/// Names this process's directories.
static COUNT: AtomicU32 = AtomicU32::new(0);

#[derive(Clone)]
struct Real {
    env: TokioEnv,
    directory: PathBuf,
    /// What keeps the silent address silent.
    silent: Arc<Mutex<Vec<OwnedFd>>>,
}

fn run(name: &str) {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{}-{number}", process::id()));
    // Left by an earlier process with the same id, if at all.
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("a directory for the test");
    let runtime = TokioEnv::start(Options { shards: 2 }).expect("threads");
    let world = Real { env: runtime.env(), directory: directory.clone(), silent: Arc::default() };
    runtime.block_on(find::<Real>(name).run(world));
    runtime.shutdown();
    // Not reached when the test fails, so that there is something to look at.
    fs::remove_dir_all(&directory).expect("the test's own directory");
}

impl World for Real {
    type Env = TokioEnv;

    fn env(&self) -> &TokioEnv {
        &self.env
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn host(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    /// A listener that accepts nobody and whose queue is full: Linux then drops what asks to connect.
    fn silent_address(&self) -> impl Future<Output = Option<SocketAddr>> + Send {
        let listener = socket(SocketFlags::empty());
        rustix::net::bind(&listener, &SocketAddr::new(self.host(), 0)).expect("a free port");
        rustix::net::listen(&listener, 0).expect("a listener");
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).expect("bound")).expect("an IP address");
        let mut kept = vec![listener];
        // On loopback a connect that is answered at all is answered before the call returns.
        loop {
            let client = socket(SocketFlags::NONBLOCK);
            assert_eq!(rustix::net::connect(&client, &address), Err(Errno::INPROGRESS));
            let is_connected = rustix::net::getpeername(&client).is_ok();
            kept.push(client);
            assert!(kept.len() < 100, "a queue of length zero never fills");
            if !is_connected {
                break;
            }
        }
        self.silent.lock().expect("never poisoned").extend(kept);
        std::future::ready(Some(address))
    }

    /// A real disk does not fail when asked to.
    fn fail_next_sync(&self, _file: &Path) -> bool {
        false
    }
}

fn socket(flags: SocketFlags) -> OwnedFd {
    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
        .expect("a socket")
}
