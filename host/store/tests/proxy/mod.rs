//! A connection that a test can cut.

use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    port: u16,
    open: Arc<watch::Sender<bool>>,
}

impl Proxy {
    pub(crate) async fn start(to: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::channel(true).0);
        let state = open.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, state) = (to.clone(), state.clone());
                tokio::spawn(async move { drop(forward(client, &to, &state).await) });
            }
        });
        Proxy { port, open }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Nothing gets through any more when this returns.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn forward(
    mut client: TcpStream,
    to: &str,
    state: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut open = state.subscribe();
    if !*open.borrow_and_update() {
        return Ok(());
    }
    let mut server = TcpStream::connect(to).await?;
    tokio::select! {
        biased;
        _ = open.changed() => Ok(()),
        done = tokio::io::copy_bidirectional(&mut client, &mut server) => done.map(drop),
    }
}
