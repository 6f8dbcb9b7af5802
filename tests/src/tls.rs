//! TLS in front of a venue, with a certificate that only this test knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::venue::Venue;

/// As large as what a client reads at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A listener that ends TLS and passes on to a venue; its connections end with it.
#[derive(Debug)]
pub struct TlsFront {
    url: String,
    certificate: PathBuf,
    _runtime: Runtime,
}

impl TlsFront {
    /// In front of this venue; the certificate goes into `dir`.
    ///
    /// # Panics
    /// When the system has no port or no thread for it.
    #[must_use]
    pub fn start(venue: &Venue, dir: &Path) -> Self {
        let (config, pem) = own_certificate();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let certificate = dir.join(format!("venue-{port}.pem"));
        std::fs::write(&certificate, pem).expect("a file");
        let behind = venue.url().strip_prefix("ws://").expect("a plain venue").to_owned();
        runtime.spawn(serve(listener, TlsAcceptor::from(config), behind));
        Self { url: format!("wss://localhost:{port}"), certificate, _runtime: runtime }
    }

    /// `wss://localhost:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that a client must trust, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }
}

/// A server's configuration for `localhost`, and its certificate in PEM.
///
/// # Panics
/// When no key can be made.
#[must_use]
pub fn own_certificate() -> (Arc<ServerConfig>, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a key that fits");
    (Arc::new(config), own.cert.pem())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: String) {
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        tokio::spawn(async move {
            // Whoever does not trust us leaves during the handshake.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let Ok(mut venue) = TcpStream::connect(behind).await else { return };
            let _ = copy_bidirectional_with_sizes(&mut client, &mut venue, 1024, BUFFER_BYTES).await;
        });
    }
}
