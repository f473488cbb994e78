//! The network of the machine: interfaces, addresses, names, time.
//!
//! First stage: the kernel forwards and answers; this configures it by netlink,
//! by DHCP (RFC 2131) or as the machine config says. Knows no API type.
//!
//! ```text
//!   netlink events -> links -> one task each: static addresses, DHCP client
//!        tasks -> Learned (servers of names and time) -> resolv.conf, clock
//!        all of it -> state.json, for whoever needs the node's addresses
//! ```

mod clock;
mod config;
mod dhcp;
mod error;
mod interface;
mod learned;
mod netlink;
mod report;
mod resolver;
mod run;

pub use config::{Cidr, Config, Interface, Ipv6, Mac, Server};
pub use error::Error;
pub use report::{InterfaceReport, Report, STATE_FILE};
pub use resolver::{RESOLV_CONF, ResolveError, Resolver};
pub use run::run;
