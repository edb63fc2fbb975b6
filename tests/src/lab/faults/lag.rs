//! LAG: whatever goes into a host or comes out of it arrives later, in order.
//!
//! Not every kernel has netem, so the host's cable is led through this process: its port moves from the switch to a bridge of
//! its own, and frames are carried between the two by way of two TAP devices, each as late as is wanted. Connections go on.

use std::sync::mpsc as channel;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tun_rs::{AsyncDevice, DeviceBuilder, Layer};

use crate::lab::Node;
use crate::lab::node::Task;

/// The longest frame, with room for a tag.
const FRAME: usize = 1600;
/// Frames on the way in one direction; more are lost, as in a switch.
const ON_THE_WAY: usize = 10_000;

/// A host whose cable is long.
#[derive(Debug)]
pub struct Lag {
    node: Node,
    ended: CancellationToken,
    carrier: Option<Task<()>>,
}

impl Lag {
    /// Makes every frame from and to the host take this much longer, each way.
    ///
    /// # Errors
    /// There is no `/dev/net/tun`, or the system refused.
    pub fn at(node: &Node, delay: Duration) -> Result<Self> {
        let ended = CancellationToken::new();
        let (told, ready) = channel::channel();
        let (near, far) = (node.part("near"), node.part("far"));
        let until = ended.clone();
        let carrier = node.spawn_at_switch("lag", async move || {
            let device = |name: &str| DeviceBuilder::new().name(name).layer(Layer::L2).build_async();
            let (near, far) = (device(&near)?, device(&far)?);
            told.send(()).context("nobody waits for the devices any more")?;
            tokio::select! {
                result = carry(&near, &far, delay) => result,
                result = carry(&far, &near, delay) => result,
                () = until.cancelled() => Ok(()),
            }
        })?;
        let lag = Self { node: node.clone(), ended, carrier: Some(carrier) };
        ready.recv().context("the devices could not be made")?;
        lag.node.detour()?;
        Ok(lag)
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        let _ = self.node.straight();
        self.ended.cancel();
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Carries frames one way, until a device is gone.
async fn carry(from: &AsyncDevice, to: &AsyncDevice, delay: Duration) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let take = async {
        let mut buffer = [0; FRAME];
        loop {
            let length = from.recv(&mut buffer).await?;
            let _ = sender.try_send((Instant::now() + delay, buffer[..length].to_vec()));
        }
    };
    let give = async {
        while let Some((at, frame)) = receiver.recv().await {
            sleep_until(at).await;
            // One that the switch does not take is lost.
            let _ = to.send(&frame).await;
        }
        Ok(())
    };
    tokio::select! {
        result = take => result,
        result = give => result,
    }
}
