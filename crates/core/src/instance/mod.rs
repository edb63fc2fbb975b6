//! An instance: what is wanted of it (`spec`) and where it stands (`state`).

pub mod spec;
pub mod state;

pub use spec::{InstanceSpec, PlacementRules, Power};
pub use state::{Health, Lifecycle, LifecycleEvent};
