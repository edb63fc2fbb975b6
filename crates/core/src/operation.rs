//! Long-running operations as users see them.

crate::words! {
    /// What an operation does.
    pub enum OperationKind {
        /// Creates an instance.
        InstanceCreate = "instance.create",
        /// Changes size, parameters or labels.
        InstanceUpdate = "instance.update",
        /// Deletes an instance, keeping its data for the undelete window.
        InstanceDelete = "instance.delete",
        /// Brings a deleted instance back.
        InstanceUndelete = "instance.undelete",
        /// Removes a deleted instance's data for good.
        InstancePurge = "instance.purge",
        /// Starts a stopped instance.
        InstanceStart = "instance.start",
        /// Stops an instance.
        InstanceStop = "instance.stop",
        /// Restarts an instance.
        InstanceRestart = "instance.restart",
        /// Moves the primary to a replica in order.
        InstanceSwitchover = "instance.switchover",
        /// Promotes a replica without the old primary.
        InstanceFailover = "instance.failover",
        /// Adds replicas.
        ReplicaAdd = "replica.add",
        /// Removes replicas.
        ReplicaRemove = "replica.remove",
        /// Creates, changes or drops a user, database or extension.
        ObjectApply = "object.apply",
    }
}

crate::words! {
    /// Where an operation stands. The last three are terminal.
    pub enum OperationState {
        /// Accepted, not begun.
        Pending = "PENDING",
        /// Steps are being carried out.
        Running = "RUNNING",
        /// A cancel or a failure is being unwound.
        Unwinding = "UNWINDING",
        /// This control plane does not know the saga's version; an upgrade or an operator must resolve it.
        Stuck = "STUCK",
        /// Done.
        Succeeded = "SUCCEEDED",
        /// Failed, and what could be undone was undone.
        Failed = "FAILED",
        /// Cancelled, and what could be undone was undone.
        Cancelled = "CANCELLED",
    }
}

impl OperationState {
    /// Whether nothing more will happen.
    pub const fn done(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Running | Self::Unwinding | Self::Stuck => false,
        }
    }
}

crate::words! {
    /// Which way the saga of an operation goes.
    pub enum Direction {
        /// Towards its goal.
        Forward = "FORWARD",
        /// Back to where it began.
        Unwind = "UNWIND",
    }
}

crate::words! {
    /// Where one step of an operation stands.
    pub enum StepState {
        /// Being carried out.
        Running = "RUNNING",
        /// Waiting for an agent.
        Waiting = "WAITING",
        /// Done.
        Done = "DONE",
        /// Failed.
        Failed = "FAILED",
        /// Being undone.
        Undoing = "UNDOING",
        /// Undone.
        Undone = "UNDONE",
    }
}
