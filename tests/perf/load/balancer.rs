//! A TCP balancer that does what a Service does: each new connection goes to one of the replicas that are ready.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use podgraft_testkit::client;

/// The interval of readiness probes; a kubelet's is a few seconds, and the drain is shorter here in proportion.
const PROBE: Duration = Duration::from_millis(20);

/// A replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replica {
    /// its webhook's port
    pub(crate) address: SocketAddr,
    /// its plain port
    pub(crate) admin: SocketAddr,
}

/// The balancer; it ends with the test.
pub(crate) struct Balancer {
    /// the address to which clients connect
    pub(crate) address: SocketAddr,
    replicas: Arc<Mutex<Vec<Replica>>>,
}

impl Balancer {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let replicas = Arc::new(Mutex::new(Vec::<Replica>::new()));
        let ready = Arc::new(Mutex::new(Vec::<SocketAddr>::new()));
        let (known, found) = (Arc::clone(&replicas), Arc::clone(&ready));
        thread::spawn(move || {
            loop {
                let all = known.lock().unwrap().clone();
                let is_ready =
                    |replica: &&Replica| client::get(replica.admin, "/readyz").is_ok_and(|(status, _)| status == 200);
                *found.lock().unwrap() = all.iter().filter(is_ready).map(|replica| replica.address).collect();
                thread::sleep(PROBE);
            }
        });
        let turn = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let ready = ready.lock().unwrap().clone();
                let Some(number) = turn.fetch_add(1, Ordering::SeqCst).checked_rem(ready.len()) else { continue };
                let _ = connect(client, ready[number]);
            }
        });
        Ok(Self { address, replicas })
    }

    pub(crate) fn add(&self, replica: Replica) {
        self.replicas.lock().unwrap().push(replica);
    }

    pub(crate) fn remove(&self, replica: Replica) {
        self.replicas.lock().unwrap().retain(|one| one.address != replica.address);
    }
}

fn connect(client: TcpStream, replica: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(replica)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut &from, &mut &to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
