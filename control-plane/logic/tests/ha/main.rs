//! High availability: the thin path, every row of the evidence table, every size of cluster, random schedules and an
//! exhaustive model around the real decisions.

mod adoption;
mod agent;
mod belief;
mod evidence;
mod model;
mod random;
mod sizes;
mod switchover;
mod thin;
mod values;
mod world;
