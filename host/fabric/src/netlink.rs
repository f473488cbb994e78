//! The kernel's links, addresses and routes, by rtnetlink.
//!
//! Every change is idempotent: what is there already is no error, what is gone
//! already neither.

use crate::config::Mac;
use crate::error::Error;
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::net::IpAddr;
use std::path::Path;

/// One interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    pub(crate) loopback: bool,
    /// A device of the machine, rather than a bridge or a tunnel.
    pub(crate) physical: bool,
    pub(crate) carrier: bool,
    pub(crate) mtu: u32,
}

/// A destination and where to send what is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    /// Unspecified: on the link itself.
    pub(crate) gateway: IpAddr,
    pub(crate) interface: u32,
}

/// A connection to the kernel.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub(crate) async fn links(&self) -> Result<Vec<Link>, Error> {
        let mut stream = self.handle.link().get().execute();
        let mut links = Vec::new();
        while let Some(message) = stream
            .try_next()
            .await
            .map_err(Error::netlink("get links"))?
        {
            let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
            let loopback = message.header.link_layer_type == LinkLayerType::Loopback;
            if !ethernet && !loopback {
                continue;
            }
            let mut link = Link {
                index: message.header.index,
                name: String::new(),
                mac: Mac([0; 6]),
                loopback,
                physical: false,
                carrier: message.header.flags.contains(LinkFlags::LowerUp),
                mtu: 0,
            };
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => link.name = name,
                    LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                    LinkAttribute::Address(bytes) => {
                        link.mac = Mac(bytes.try_into().unwrap_or_default());
                    }
                    _ => {}
                }
            }
            let device = Path::new("/sys/class/net").join(&link.name).join("device");
            link.physical = device.exists();
            links.push(link);
        }
        Ok(links)
    }

    pub(crate) async fn set_up(&self, index: u32, mtu: Option<u32>) -> Result<(), Error> {
        let mut message = LinkUnspec::new_with_index(index).up();
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let request = self.handle.link().set(message.build());
        request
            .execute()
            .await
            .map_err(Error::netlink("set link up"))
    }

    pub(crate) async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        let request = self.handle.link().set(message);
        request.execute().await.map_err(Error::netlink("set MTU"))
    }

    pub(crate) async fn add_address(&self, index: u32, net: IpNet) -> Result<(), Error> {
        let request = self
            .handle
            .address()
            .add(index, net.addr(), net.prefix_len());
        let done = request.replace().execute().await;
        done.map_err(Error::netlink("add address"))
    }

    pub(crate) async fn remove_address(&self, index: u32, net: IpNet) -> Result<(), Error> {
        let mut stream = self.handle.address().get().execute();
        while let Some(message) = stream
            .try_next()
            .await
            .map_err(Error::netlink("get addresses"))?
        {
            let is_it = message.header.index == index
                && message.header.prefix_len == net.prefix_len()
                && address_of(&message.attributes) == Some(net.addr());
            if is_it {
                let request = self.handle.address().del(message);
                return request
                    .execute()
                    .await
                    .map_err(Error::netlink("remove address"));
            }
        }
        Ok(())
    }

    /// Every address, with its interface's index.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, IpNet)>, Error> {
        let mut stream = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = stream
            .try_next()
            .await
            .map_err(Error::netlink("get addresses"))?
        {
            let net = address_of(&message.attributes)
                .and_then(|address| IpNet::new(address, message.header.prefix_len).ok());
            addresses.extend(net.map(|net| (message.header.index, net)));
        }
        Ok(addresses)
    }

    pub(crate) async fn add_route(&self, route: Route) -> Result<(), Error> {
        let builder = RouteMessageBuilder::<IpAddr>::new().output_interface(route.interface);
        let (address, length) = (route.destination.network(), route.destination.prefix_len());
        let builder = builder.destination_prefix(address, length);
        let builder = builder.map_err(|error| invalid("add route", &error))?;
        let builder = if route.gateway.is_unspecified() {
            builder
        } else {
            let builder = builder.gateway(route.gateway);
            // A gateway beyond the own prefix is usual in clouds.
            builder
                .map_err(|error| invalid("add route", &error))?
                .onlink()
        };
        let request = self.handle.route().add(builder.build()).replace();
        request.execute().await.map_err(Error::netlink("add route"))
    }
}

fn invalid(operation: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Io {
        operation: operation.to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}

fn address_of(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}
