//! CUT: a host's cable is pulled. Nobody is told: connections hang.

use anyhow::Result;

use crate::lab::Node;
use crate::lab::node::Cable;

/// A host whose cable is pulled.
#[derive(Debug)]
pub struct Cut(Node);

impl Cut {
    /// Pulls it.
    ///
    /// # Errors
    /// The system refused.
    pub fn off(node: &Node) -> Result<Self> {
        node.cable(Cable::Pulled)?;
        Ok(Self(node.clone()))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.0.cable(Cable::Plugged);
    }
}
