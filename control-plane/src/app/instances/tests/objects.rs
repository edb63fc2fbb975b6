//! Users, databases and extensions.

use secrecy::{ExposeSecret as _, SecretString};
use windlass_core::{
    Error, Reason,
    command::CommandKind,
    engine::Engine,
    id::OperationId,
    member::MemberRole,
    object::{ObjectKind, ObjectState},
};

use crate::{
    app::{
        instances::{self, CreateInstance, Via, Wanted},
        objects::{self, CreateObject},
    },
    testbed::{Bed, ask, name},
};

fn new(kind: ObjectKind, id: &str) -> CreateObject {
    CreateObject {
        kind,
        name: id.to_owned(),
        owner: String::new(),
        databases: Vec::new(),
        database: String::new(),
        password: SecretString::from(""),
    }
}

async fn create(bed: &Bed, object: CreateObject) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let operation = objects::create(&bed.cx, &mut tx, &bed.caller, &name("pg-1"), object).await?;
    tx.commit().await?;
    Ok(operation)
}

async fn drop(bed: &Bed, kind: ObjectKind, object: &str) -> Result<OperationId, Error> {
    let mut tx = bed.tx().await;
    let operation = objects::drop(&mut tx, &bed.caller, &name("pg-1"), kind, object, "").await?;
    tx.commit().await?;
    Ok(operation)
}

async fn states(bed: &Bed, kind: ObjectKind) -> Vec<(String, ObjectState)> {
    let (_, objects) = objects::list(&bed.cx, &bed.caller, &name("pg-1"), Some(kind)).await.expect("listed");
    objects.into_iter().map(|object| (object.key.name, object.state)).collect()
}

#[tokio::test]
async fn objects_come_and_go() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let operation = create(&bed, new(ObjectKind::User, "ann")).await.expect("accepted");
    bed.succeed(operation).await;
    let owned = CreateObject { owner: "ann".into(), ..new(ObjectKind::Database, "orders") };
    let operation = create(&bed, owned).await.expect("accepted");
    bed.succeed(operation).await;
    let extension = CreateObject { database: "orders".into(), ..new(ObjectKind::Extension, "pg_trgm") };
    let operation = create(&bed, extension).await.expect("accepted");
    bed.succeed(operation).await;
    assert_eq!(bed.agents.objects, ["USER ann", "DATABASE orders", "EXTENSION pg_trgm"]);

    let error = drop(&bed, ObjectKind::User, "ann").await.expect_err("owns a database");
    assert!(error.message.contains("owns the database orders"), "{error}");
    let operation = drop(&bed, ObjectKind::Database, "orders").await.expect("accepted");
    bed.succeed(operation).await;
    assert!(states(&bed, ObjectKind::Extension).await.is_empty(), "gone with its database");
    let operation = drop(&bed, ObjectKind::User, "ann").await.expect("accepted");
    bed.succeed(operation).await;
    assert_eq!(states(&bed, ObjectKind::User).await, [("app".to_owned(), ObjectState::Ready)]);
}

#[tokio::test]
async fn bad_objects_are_refused() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let password = |text: &str| SecretString::from(text);
    for (object, reason, says) in [
        (new(ObjectKind::User, "Ann"), Reason::InvalidField, "object_id"),
        (new(ObjectKind::User, "postgres"), Reason::InvalidField, "reserved"),
        (new(ObjectKind::User, "app"), Reason::NameInUse, "projects/shop/instances/pg-1/users/app"),
        (
            CreateObject { owner: "nobody".into(), ..new(ObjectKind::Database, "d") },
            Reason::InvalidField,
            "user \"nobody\" does not exist",
        ),
        (
            CreateObject { databases: vec!["none".into()], ..new(ObjectKind::User, "u") },
            Reason::InvalidField,
            "database \"none\" does not exist",
        ),
        (
            CreateObject { password: password("short"), ..new(ObjectKind::User, "u") },
            Reason::InvalidField,
            "must have 12 to 128",
        ),
        (
            CreateObject { password: password("long enough to pass"), ..new(ObjectKind::Database, "d") },
            Reason::InvalidField,
            "is for a user, not for a database",
        ),
    ] {
        let error = create(&bed, object).await.expect_err(says);
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.message.contains(says), "{says}: {error}");
        assert!(!error.message.contains("short\""), "no password in an error: {error}");
    }
    for (kind, object) in [(ObjectKind::User, "app"), (ObjectKind::Database, "app")] {
        assert_eq!(drop(&bed, kind, object).await.expect_err("needed").reason, Reason::StateForbids);
    }
    assert_eq!(drop(&bed, ObjectKind::User, "nobody").await.expect_err("none").reason, Reason::NotFound);
}

#[tokio::test]
async fn mariadb_has_no_extensions() {
    let mut bed = Bed::new(1).await;
    let ask = CreateInstance { engine: Engine::Mariadb.to_string(), ..ask("pg-1") };
    let operation = bed.try_create(ask).await.expect("accepted");
    bed.succeed(operation).await;
    let error = create(&bed, new(ObjectKind::Extension, "hstore")).await.expect_err("none");
    assert!(error.message.contains("MariaDB has no extensions"), "{error}");
}

#[tokio::test]
async fn what_the_engine_refuses_is_failed_and_may_be_asked_for_again() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    bed.agents.fail(CommandKind::ApplyObject, Reason::DatabaseRefused);
    let operation = create(&bed, new(ObjectKind::Database, "orders")).await.expect("accepted");
    assert_eq!(bed.fail(operation).await.reason, Reason::DatabaseRefused);
    assert!(states(&bed, ObjectKind::Database).await.contains(&("orders".to_owned(), ObjectState::Failed)));
    let operation = create(&bed, new(ObjectKind::Database, "orders")).await.expect("asked again");
    bed.succeed(operation).await;
    bed.agents.fail(CommandKind::ApplyObject, Reason::DatabaseRefused);
    let operation = drop(&bed, ObjectKind::Database, "orders").await.expect("accepted");
    bed.fail(operation).await;
    assert!(states(&bed, ObjectKind::Database).await.contains(&("orders".to_owned(), ObjectState::Ready)));
}

#[tokio::test]
async fn a_given_or_made_password_is_read_back_and_each_reading_leaves_an_event() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let given = CreateObject { password: "correct horse battery".into(), ..new(ObjectKind::User, "ann") };
    let operation = create(&bed, given).await.expect("accepted");
    bed.succeed(operation).await;
    let connection =
        instances::connection(&bed.cx, &bed.caller, &name("pg-1"), &wanted("ann", "")).await.expect("a connection");
    assert_eq!(connection.password.expose_secret(), "correct horse battery");
    assert_eq!((connection.addresses[0].1, connection.uri.as_str()), (20000, "postgresql://ann@h1.test:20000/app"));
    let admin =
        instances::connection(&bed.cx, &bed.caller, &name("pg-1"), &wanted("", "")).await.expect("a connection");
    assert_eq!((admin.user.as_str(), admin.password.expose_secret().len()), ("app", 32));
    let reads = "select count(*) from event where kind = 'credentials.read' and instance_id is not null";
    assert_eq!(bed.count(reads).await, 2);
    for (user, database) in [("bob", ""), ("ann", "none")] {
        let error = instances::connection(&bed.cx, &bed.caller, &name("pg-1"), &wanted(user, database)).await;
        assert_eq!(error.expect_err("unknown").reason, Reason::NotFound);
    }
    assert_eq!(bed.count("select count(*) from event e where e::text like '%battery%'").await, 0);
    assert_eq!(bed.count("select count(*) from command c where c::text like '%battery%'").await, 0);
}

#[tokio::test]
async fn a_stopped_instance_takes_no_objects() {
    let mut bed = Bed::new(1).await;
    bed.created("pg-1").await;
    let mut tx = bed.tx().await;
    let operation = instances::stop(&mut tx, &bed.caller, &name("pg-1"), "").await.expect("accepted");
    tx.commit().await.expect("commit");
    bed.succeed(operation).await;
    let error = create(&bed, new(ObjectKind::Database, "orders")).await.expect_err("stopped");
    assert_eq!((error.reason, error.metadata["state"].as_str()), (Reason::StateForbids, "STOPPED"));
    bed.check().await;
}

fn wanted(user: &str, database: &str) -> Wanted {
    Wanted { user: user.to_owned(), database: database.to_owned(), via: Via::Proxy, role: MemberRole::Primary }
}
