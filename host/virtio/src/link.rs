//! The way from a transport to the thread that serves its device.
//!
//! ```text
//!             Activate            Pause
//!     idle ------------> active ---------> paused
//!      ^                   |  ^              |
//!      +------ Reset ------+  +--- Resume ---+
//! ```
//!
//! The queue of orders holds at most the few that a register write or a control
//! request makes; whoever wants an answer waits for it before the next order.

use crate::ring::{Progress, Ring};
use crate::signals::Signals;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use sys::event::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A device is to begin: rings of the queues that the driver made ready.
#[derive(Debug)]
pub struct Activation {
    pub features: u64,
    pub rings: Vec<Option<Ring>>,
    pub signals: Signals,
    /// Continues after a thaw: the driver may miss an interrupt.
    pub thawed: bool,
}

#[derive(Debug)]
pub enum Order {
    Activate(Activation),
    /// Forget the rings; answered when no request is in work any more.
    Reset(SyncSender<()>),
    /// Answered with the positions of the rings, when nothing is in work.
    Pause(SyncSender<Vec<Option<Progress>>>),
    Resume,
}

/// The transport's end.
#[derive(Debug)]
pub struct Link {
    /// Taken only when it is dropped.
    orders: Option<Sender<Order>>,
    wake: Arc<EventFd>,
}

/// The device's end: its descriptor becomes readable for orders and for
/// notifications of the driver alike.
#[derive(Debug)]
pub struct Inbox {
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
}

/// The device's thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device's thread ended")]
pub struct Gone;

/// Makes both ends; `waiting` is for a device whose thread sleeps in
/// `Inbox::wait`, else the descriptor is for a poll loop.
///
/// # Errors
/// As `eventfd(2)`.
pub fn link(waiting: bool) -> std::io::Result<(Link, Inbox)> {
    let flags = if waiting { 0 } else { EFD_NONBLOCK };
    Ok(link_on(Arc::new(EventFd::new(flags | EFD_CLOEXEC)?)))
}

/// Makes both ends on a descriptor that a thread waits for already: it serves
/// more than one device.
pub(crate) fn link_on(wake: Arc<EventFd>) -> (Link, Inbox) {
    let (sender, receiver) = channel();
    let link = Link {
        orders: Some(sender),
        wake: Arc::clone(&wake),
    };
    let inbox = Inbox {
        orders: receiver,
        wake,
    };
    (link, inbox)
}

impl Link {
    /// # Errors
    /// `Gone`.
    pub fn order(&self, order: Order) -> Result<(), Gone> {
        let orders = self.orders.as_ref().ok_or(Gone)?;
        orders.send(order).map_err(|_| Gone)?;
        self.notify();
        Ok(())
    }

    /// Orders a reset and waits for its end.
    ///
    /// # Errors
    /// `Gone`.
    pub fn reset(&self) -> Result<(), Gone> {
        let (sender, receiver) = sync_channel(1);
        self.order(Order::Reset(sender))?;
        receiver.recv().map_err(|_| Gone)
    }

    /// The driver rang; also what KVM writes to by itself (ioeventfd).
    pub fn notify(&self) {
        // Full means that it is readable, which is all that is wanted.
        let _ = self.wake.write(1);
    }

    #[must_use]
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }
}

impl Drop for Link {
    /// Wakes the device's thread, which then finds nobody left.
    fn drop(&mut self) {
        drop(self.orders.take());
        self.notify();
    }
}

impl Inbox {
    #[must_use]
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// For `link_on`.
    pub(crate) fn shared_wake(&self) -> Arc<EventFd> {
        Arc::clone(&self.wake)
    }

    /// Sleeps until there may be something to do.
    pub fn wait(&self) {
        // An error can only be an interruption: look and wait again.
        let _ = self.wake.read();
    }

    /// The next order. `Err` if no transport is left.
    ///
    /// # Errors
    /// `Gone`.
    pub fn take(&self) -> Result<Option<Order>, Gone> {
        match self.orders.try_recv() {
            Ok(order) => Ok(Some(order)),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(None),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(Gone),
        }
    }

    /// Comes back here soon without anybody's notification.
    pub fn again(&self) {
        let _ = self.wake.write(1);
    }
}
