//! What every PostgreSQL instance has in the database `postgres` for replication and for proxies.
//!
//! Made when a data directory is initialised; repeatable. Proxies read one role's verifier at a time by a function of the
//! superuser's; members read the barrier, and the files that a rewind needs. Neither can write anything.

use tokio_postgres::Client;
use windlass_core::Error;

use super::super::{
    access::{PROXY_ROLE, REPLICATION_ROLE},
    run::refused,
};

/// Makes what is missing.
///
/// # Errors
/// `DATABASE_REFUSED`, `UNAVAILABLE`.
pub(in crate::engines::postgres) async fn ensure(client: &Client) -> Result<(), Error> {
    // The function is made last: where it is, the rest is.
    let there = "select to_regprocedure('windlass.verifier(text)') is not null";
    if client.query_one(there, &[]).await.map_err(refused)?.get(0) {
        return Ok(());
    }
    client.batch_execute(&statements()).await.map_err(refused)
}

fn statements() -> String {
    format!(
        "begin;
        do $$ begin
            if to_regrole('{REPLICATION_ROLE}') is null then create role {REPLICATION_ROLE} login replication; end if;
            if to_regrole('{PROXY_ROLE}') is null then create role {PROXY_ROLE} login; end if;
        end $$;
        create schema if not exists windlass;
        create table if not exists windlass.barrier (
            epoch bigint not null,
            rev bigint not null,
            member uuid not null,
            nonce uuid not null,
            at timestamptz not null default clock_timestamp(),
            primary key (epoch, rev)
        );
        grant usage on schema windlass to {REPLICATION_ROLE}, {PROXY_ROLE};
        grant select on windlass.barrier to {REPLICATION_ROLE};
        grant execute on function pg_catalog.pg_ls_dir(text, boolean, boolean) to {REPLICATION_ROLE};
        grant execute on function pg_catalog.pg_stat_file(text, boolean) to {REPLICATION_ROLE};
        grant execute on function pg_catalog.pg_read_binary_file(text) to {REPLICATION_ROLE};
        grant execute on function pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) to {REPLICATION_ROLE};
        create or replace function windlass.verifier(name text) returns text
            language sql stable security definer set search_path = pg_catalog, pg_temp
            as $$ select rolpassword from pg_authid
                where rolname = name and rolcanlogin and not rolsuper
                and rolpassword like 'SCRAM-SHA-256$%' and (rolvaliduntil is null or rolvaliduntil > now()) $$;
        revoke all on function windlass.verifier(text) from public;
        grant execute on function windlass.verifier(text) to {PROXY_ROLE};
        commit"
    )
}
