//! The reference for lists: nginx, which serves a file of the same bytes over
//! TLS, from one process.

use crate::Result;
use crate::atoll::roots;
use crate::connection::{Connection, Target};
use crate::process::{Process, free_port};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);
/// The file's path.
pub(crate) const FILE: &str = "/list.json";

/// Serves `bytes` at [`FILE`], and compressed where it is accepted.
pub(crate) async fn serve(place: &Path, bytes: &[u8]) -> Result<(Process, Target)> {
    let place = place.join("nginx");
    fs::create_dir_all(place.join("root"))?;
    fs::write(place.join("root").join(FILE.trim_start_matches('/')), bytes)?;
    let key = rcgen::KeyPair::generate()?;
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = parameters.self_signed(&key)?.pem();
    fs::write(place.join("certificate.pem"), &certificate)?;
    fs::write(place.join("key.pem"), key.serialize_pem())?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let config = place.join("nginx.conf");
    fs::write(&config, text(&place, &address))?;
    let config = config.display().to_string();
    let arguments = ["-c", &config, "-p", &place.display().to_string()];
    let log = place.join("log");
    let process = Process::start(Path::new("/usr/sbin/nginx"), &arguments, &log)?;
    let builder = rustls::ClientConfig::builder();
    let builder = builder.with_root_certificates(roots(certificate.as_bytes())?);
    let target = Target {
        address: address.parse()?,
        tls: Arc::new(builder.with_no_client_auth()),
    };
    let began = Instant::now();
    while let Err(error) = Connection::open(&target).await {
        if began.elapsed() > PATIENCE {
            return Err(format!("nginx: {error}; {}", fs::read_to_string(&log)?).into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok((process, target))
}

fn text(place: &Path, address: &str) -> String {
    let place = place.display();
    format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
         events {{}}\n\
         http {{\n\
           access_log off; keepalive_requests 100000; types {{ application/json json; }}\n\
           gzip on; gzip_comp_level 1; gzip_types application/json; gzip_proxied any;\n\
           client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
           fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi;\n\
           scgi_temp_path {place}/scgi;\n\
           server {{ listen {address} ssl; root {place}/root;\n\
             ssl_certificate {place}/certificate.pem; ssl_certificate_key {place}/key.pem; }}\n\
         }}\n"
    )
}
