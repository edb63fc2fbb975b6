//! `windlass database`, `windlass user`, `windlass extension`: objects inside an instance.

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use windlass_proto::api::v1::{self as pb, database_object::Kind};

use crate::{
    api::PAGE,
    args::{Changing, Deleting},
    confirm,
    context::Context,
    failure::Failure,
    names,
};

#[derive(Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Make a database
    Create {
        #[command(flatten)]
        object: Object,
        /// The user that owns it
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        #[command(flatten)]
        creating: Creating,
    },
    /// List the databases of an instance
    #[command(visible_alias = "ls")]
    List { instance: String },
    /// Drop a database and all that is in it
    Drop(Dropping),
}

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user with a generated password; `windlass connection-string` shows it
    Create {
        #[command(flatten)]
        object: Object,
        /// A database it may use; may be repeated; all if not given
        #[arg(long, value_name = "DATABASE")]
        database: Vec<String>,
        /// Read the password from stdin instead of generating one
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        creating: Creating,
    },
    /// List the users of an instance
    #[command(visible_alias = "ls")]
    List { instance: String },
    /// Drop a user
    Drop(Dropping),
}

#[derive(Subcommand)]
pub(crate) enum ExtensionCommand {
    /// Make an extension
    Create {
        #[command(flatten)]
        object: Object,
        /// The database it goes into; the default one if not given
        #[arg(long, value_name = "DATABASE")]
        database: Option<String>,
        #[command(flatten)]
        creating: Creating,
    },
    /// List the extensions of an instance
    #[command(visible_alias = "ls")]
    List { instance: String },
    /// Drop an extension
    Drop {
        #[command(flatten)]
        drop: Dropping,
        /// The database it is in, if several have it
        #[arg(long, value_name = "DATABASE")]
        database: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct Object {
    instance: String,
    name: String,
}

#[derive(Args)]
pub(crate) struct Creating {
    /// Check the request and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Args)]
pub(crate) struct Dropping {
    #[command(flatten)]
    object: Object,
    #[command(flatten)]
    deleting: Deleting,
    #[command(flatten)]
    changing: Changing,
}

/// What differs between the three nouns.
#[derive(Clone, Copy)]
struct Noun {
    kind: Kind,
    word: &'static str,
    collection: &'static str,
    loss: &'static str,
}

const DATABASE: Noun =
    Noun { kind: Kind::Database, word: "database", collection: "databases", loss: "Everything in it is lost." };
const USER: Noun = Noun { kind: Kind::User, word: "user", collection: "users", loss: "It cannot log in any more." };
const EXTENSION: Noun =
    Noun { kind: Kind::Extension, word: "extension", collection: "extensions", loss: "What uses it stops working." };

impl DatabaseCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { object, owner, creating } => {
                let wanted = pb::DatabaseObject { owner: owner.unwrap_or_default(), ..Default::default() };
                DATABASE.create(cx, &object, wanted, String::new(), &creating).await
            }
            Self::List { instance } => DATABASE.list(cx, &instance).await,
            Self::Drop(drop) => DATABASE.drop(cx, drop, String::new()).await,
        }
    }
}

impl UserCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { object, database, password_stdin, creating } => {
                let wanted = pb::DatabaseObject { databases: database.join(","), ..Default::default() };
                let password = if password_stdin { read_password()? } else { String::new() };
                USER.create(cx, &object, wanted, password, &creating).await
            }
            Self::List { instance } => USER.list(cx, &instance).await,
            Self::Drop(drop) => USER.drop(cx, drop, String::new()).await,
        }
    }
}

impl ExtensionCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { object, database, creating } => {
                let wanted = pb::DatabaseObject { database: database.unwrap_or_default(), ..Default::default() };
                EXTENSION.create(cx, &object, wanted, String::new(), &creating).await
            }
            Self::List { instance } => EXTENSION.list(cx, &instance).await,
            Self::Drop { drop, database } => EXTENSION.drop(cx, drop, database.unwrap_or_default()).await,
        }
    }
}

impl Noun {
    async fn create(
        self,
        cx: &Context,
        object: &Object,
        mut wanted: pb::DatabaseObject,
        password: String,
        creating: &Creating,
    ) -> Result<(), Failure> {
        wanted.set_kind(self.kind);
        let request = pb::CreateObjectRequest {
            parent: cx.instance(&object.instance).await?,
            object_id: names::short(&object.name).to_owned(),
            object: Some(wanted),
            password,
            request_id: creating.changing.mutation.request_id(),
            validate_only: creating.dry_run,
        };
        let api = cx.api().await?;
        let operation = api.call(async || api.objects().create_object(request.clone()).await).await?;
        if creating.dry_run {
            return cx.checked(&operation);
        }
        let done = format!("{} {} is ready", self.word, object.name);
        cx.settle(operation, &creating.changing.waiting, &done).await
    }

    async fn list(self, cx: &Context, instance: &str) -> Result<(), Failure> {
        let api = cx.api().await?;
        let parent = cx.instance(instance).await?;
        let objects = api
            .pages(async |page_token| {
                let parent = parent.clone();
                let request = pb::ListObjectsRequest { parent, kind: self.kind.into(), page_size: PAGE, page_token };
                let answer = api.call(async || api.objects().list_objects(request.clone()).await).await?;
                Ok((answer.objects, answer.next_page_token))
            })
            .await?;
        cx.out.list(&objects)
    }

    async fn drop(self, cx: &Context, drop: Dropping, database: String) -> Result<(), Failure> {
        let instance = cx.instance(&drop.object.instance).await?;
        let name = names::object(&instance, self.collection, &drop.object.name);
        let short = names::short(&name).to_owned();
        confirm::destroying(self.word, &short, self.loss, drop.deleting.yes)?;
        let request = pb::DropObjectRequest { name, request_id: drop.changing.mutation.request_id(), database };
        let api = cx.api().await?;
        match api.call(async || api.objects().drop_object(request.clone()).await).await {
            Ok(operation) => {
                cx.settle(operation, &drop.changing.waiting, &format!("{} {short} is dropped", self.word)).await
            }
            Err(failure) if drop.deleting.if_exists && failure.is_not_found() => {
                cx.out.note(format!("{} {short} does not exist", self.word));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

/// One line of stdin, without its end.
fn read_password() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "--password-stdin would show the password on the terminal; pipe it in, or let one be generated".to_owned(),
        ));
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::Local(format!("cannot read the password from stdin: {error}")))?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::Usage("stdin has no password".to_owned()));
    }
    Ok(password.to_owned())
}
