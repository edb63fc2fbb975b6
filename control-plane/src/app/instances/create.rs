//! Creating an instance: everything that can be refused is refused here, at once.
//!
//! One transaction checks, takes quota, chooses a host, reserves room and a port, stores the instance and starts the
//! saga. A dry run is the same, rolled back by the caller. Locks: project, then host.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use windlass_core::{
    Error, ErrorKind, Reason,
    engine::Engine,
    error::FieldViolation,
    id::{InstanceId, OperationId},
    instance::{InstanceSpec, PlacementRules, Power},
    name::ResourceName,
    object::{ObjectKind, ObjectState},
    replication::Replication,
    role::Permission,
    size::Resources,
};
use windlass_db::{
    PgConnection, Tx,
    instances::{self, NewInstance},
    objects::{NewObject, ObjectKey, object_put_tx},
    projects::project_lock_tx,
    reservations, shard, supply,
};
use windlass_logic::quota;

use super::{
    model::{InstanceName, placement_request},
    placing::{self, Seat},
    secret, validate,
};
use crate::{
    app::{Caller, Context},
    sagas::{self, instance_create},
    secrets::{generate_password, verifier},
};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct CreateInstance {
    /// Name or uid of the project.
    pub project: String,
    /// Name of the instance.
    pub instance_id: String,
    /// Word of [`Engine`].
    pub engine: String,
    /// Major version; empty for the newest that a host has.
    pub version: String,
    /// Size; parts that are 0 take the default.
    pub resources: Resources,
    /// The user's parameters.
    pub parameters: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where it may be placed.
    pub placement: PlacementRules,
    /// Refuse to delete it.
    pub deletion_protection: bool,
    /// Members beside the primary.
    pub replication: Replication,
}

/// Accepts an instance and begins to create it.
///
/// # Errors
/// `INVALID_FIELD` naming every field that breaks a rule, `PARAMETER_INVALID`, `ENGINE_UNAVAILABLE`, `NAME_IN_USE`,
/// `QUOTA_EXCEEDED`, `NO_HOST_FITS`, `NOT_SUPPORTED` for replicas of an engine that has none, `PERMISSION_MISSING`,
/// `NOT_FOUND` for the project.
pub async fn create(cx: &Context, tx: &mut Tx, caller: &Caller, ask: CreateInstance) -> Result<OperationId, Error> {
    let project = caller.project_tx(tx, &ask.project, Permission::ProjectWrite).await?;
    let (name, engine, size) = check_shape(&ask)?;
    let version = choose_version(tx, engine, &ask.version).await?;
    check_parameters(tx, engine, &version, &ask.parameters).await?;
    let spec = InstanceSpec {
        engine,
        version,
        resources: size,
        power: Power::On,
        parameters: ask.parameters,
        placement: ask.placement,
        deletion_protection: ask.deletion_protection,
        restarts: 0,
        replication: ask.replication,
    };
    let full = InstanceName { project: project.name.clone(), instance: name.to_string() }.path();
    let id = InstanceId::new();
    let admin = Admin::new(cx, id, engine);

    let project = project_lock_tx(tx, project.id).await?.ok_or_else(|| Error::not_found("project", &ask.project))?;
    if instances::instance_named_tx(tx, project.id, name.as_str()).await?.is_some() {
        return Err(Error::already_exists("instance", full));
    }
    let seats = Seat::of(&spec.replication);
    let more = quota::Amount { instances: 1, resources: sum(seats.iter().map(|_| size)) };
    quota::check(&project.name, &amount(&project.quota), &amount(&project.used), &more)?;
    let new = NewInstance {
        id,
        project_id: project.id,
        name: name.as_str(),
        labels: &ask.labels,
        spec: &spec,
        shard: shard::of(id.0),
    };
    instances::instance_insert_tx(tx, &new).await?;
    reservations::project_instances_add_tx(tx, project.id, 1).await?;
    let request = placement_request(id, &spec, size);
    let (_, verdicts) = placing::place_tx(tx, project.id, &request, &seats).await?;
    let verdicts = serde_json::to_value(&verdicts)
        .map_err(|error| Error::internal("the scheduler's verdicts cannot be written").with_source(error))?;
    instances::instance_set_placement_tx(tx, id, &verdicts).await?;
    admin.store(tx, id, engine).await?;

    let start = sagas::Request { project: Some(project.id), instance: Some(id), target: full, actor: caller.actor() };
    let data = instance_create::Data::new(id);
    let operation = sagas::start::<instance_create::InstanceCreate>(tx, start, &data).await?;
    instances::instance_set_operation_tx(tx, id, operation).await?;
    Ok(operation)
}

/// Checks what needs no database; all faults at once.
fn check_shape(ask: &CreateInstance) -> Result<(ResourceName, Engine, Resources), Error> {
    let name = ResourceName::parse("instance_id", &ask.instance_id);
    let engine = parse_engine(&ask.engine);
    let size = validate::resources("instance.resources", ask.resources);
    let labels = crate::app::validate::labels("instance.labels", &ask.labels);
    let hosts = crate::app::validate::labels("instance.placement.host_labels", &ask.placement.host_labels);
    let replication = ask.replication.check("instance.replication");
    match (name, engine, size, labels, hosts, replication) {
        (Ok(name), Ok(engine), Ok(size), Ok(()), Ok(()), Ok(())) => {
            validate::replicable(engine, &ask.replication)?;
            Ok((name, engine, size))
        }
        (name, engine, size, labels, hosts, replication) => {
            let faults = [name.err(), engine.err(), size.err(), labels.err(), hosts.err(), replication.err()];
            let violations: Vec<FieldViolation> =
                faults.into_iter().flatten().flat_map(|error| error.violations).collect();
            Err(Error::violations(violations))
        }
    }
}

fn parse_engine(text: &str) -> Result<Engine, Error> {
    let known: Vec<_> = Engine::ALL.iter().map(|engine| engine.as_str()).collect();
    if text.is_empty() {
        return Err(Error::invalid("instance.engine", format!("is empty; choose one of {}", known.join(", "))));
    }
    text.parse::<Engine>().map_err(|error| Error::invalid("instance.engine", error.message))
}

/// The version to use: the one asked for if a host has it, or the newest.
async fn choose_version(tx: &mut PgConnection, engine: Engine, asked: &str) -> Result<String, Error> {
    if !asked.is_empty() && supply::version_offered_tx(tx, engine, asked).await? {
        return Ok(asked.to_owned());
    }
    let offered = supply::offered_versions_tx(tx).await?;
    let of_engine = || offered.iter().filter(|offer| offer.engine == engine).map(|offer| offer.version.as_str());
    match engine.newest(of_engine()) {
        Some(newest) if asked.is_empty() => Ok(newest.to_owned()),
        _ => {
            let title = engine.descriptor().title;
            let wanted = if asked.is_empty() { title.to_owned() } else { format!("{title} {asked}") };
            let list: Vec<_> = offered.iter().map(|offer| format!("{} {}", offer.engine, offer.version)).collect();
            let list = if list.is_empty() { "no engine at all".to_owned() } else { list.join(", ") };
            Err(Error::new(
                ErrorKind::FailedPrecondition,
                Reason::EngineUnavailable,
                format!("no host has {wanted}; the hosts have {list}; install it on a host or ask for one of these"),
            )
            .with_metadata("engine", engine)
            .with_metadata("version", asked))
        }
    }
}

/// Checks parameters against the catalogue that the engine itself gave.
pub(super) async fn check_parameters(
    tx: &mut PgConnection,
    engine: Engine,
    version: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<(), Error> {
    if parameters.is_empty() {
        return Ok(());
    }
    let catalogue = catalogue(tx, engine, version).await?;
    catalogue.check(engine, parameters).map_err(|error| error.under("instance"))
}

/// The catalogue of a version that some host has.
pub(super) async fn catalogue(
    tx: &mut PgConnection,
    engine: Engine,
    version: &str,
) -> Result<windlass_core::parameter::Catalogue, Error> {
    supply::catalogue_of_tx(tx, engine, version).await?.ok_or_else(|| {
        Error::unavailable(format!(
            "the parameters of {} {version} are not known yet: no host has sent its list; try again in a few seconds",
            engine.descriptor().title
        ))
    })
}

/// What members of these sizes reserve together.
pub(super) fn sum(sizes: impl Iterator<Item = Resources>) -> Resources {
    sizes.fold(Resources::default(), |sum, size| Resources {
        cpu_millis: sum.cpu_millis.saturating_add(size.cpu_millis),
        memory_bytes: sum.memory_bytes.saturating_add(size.memory_bytes),
        disk_bytes: sum.disk_bytes.saturating_add(size.disk_bytes),
    })
}

pub(super) fn amount(stored: &windlass_db::projects::Amount) -> quota::Amount {
    quota::Amount { instances: stored.instances, resources: stored.resources }
}

/// The administrator that every instance has from the start.
struct Admin {
    key: ObjectKey,
    verifier: String,
    sealed: Vec<u8>,
}

impl Admin {
    /// Made before any row is locked: the verifier takes some milliseconds on purpose.
    fn new(cx: &Context, id: InstanceId, engine: Engine) -> Self {
        let key = ObjectKey {
            kind: ObjectKind::User,
            name: engine.descriptor().admin_user.to_owned(),
            database: String::new(),
        };
        let password: SecretString = generate_password();
        let sealed = cx.sealer.seal(&secret::place(id, &key), password.expose_secret().as_bytes());
        Self { verifier: verifier(engine, &password), key, sealed }
    }

    async fn store(&self, tx: &mut PgConnection, id: InstanceId, engine: Engine) -> Result<(), Error> {
        let user = NewObject {
            key: &self.key,
            state: ObjectState::Pending,
            owner: "",
            databases: &[],
            administrator: true,
            verifier: &self.verifier,
            secret_sealed: Some(&self.sealed),
        };
        object_put_tx(tx, id, &user).await?;
        let key = ObjectKey {
            kind: ObjectKind::Database,
            name: engine.descriptor().default_database.to_owned(),
            database: String::new(),
        };
        let database = NewObject {
            key: &key,
            owner: &self.key.name,
            administrator: false,
            verifier: "",
            secret_sealed: None,
            ..user
        };
        object_put_tx(tx, id, &database).await
    }
}
