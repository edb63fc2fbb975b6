-- The metadata of a Windlass installation. Times are UTC. States are the words of windlass-core.

-- Ownership terms. `unique (name, epoch)` makes epoch a key column: a takeover must wait for writers that hold
-- FOR KEY SHARE on the row, a renewal need not.
create table lease (
    name       text primary key,
    owner      text not null,
    epoch      bigint not null,
    expires_at timestamptz not null,
    unique (name, epoch)
);

-- Installation-wide values: cluster id, and whatever must exist once.
create table setting (
    key   text primary key,
    value jsonb not null
);

create table certificate_authority (
    id          bigint generated always as identity primary key,
    cert_pem    text not null,
    key_sealed  bytea not null,
    create_time timestamptz not null default now(),
    not_after   timestamptz not null
);

create table project (
    id               uuid primary key,
    name             text not null unique,
    labels           jsonb not null default '{}',
    quota_instances  bigint not null check (quota_instances >= 0),
    quota_cpu_millis bigint not null check (quota_cpu_millis >= 0),
    quota_memory     bigint not null check (quota_memory >= 0),
    quota_disk       bigint not null check (quota_disk >= 0),
    used_instances   bigint not null default 0 check (used_instances >= 0),
    used_cpu_millis  bigint not null default 0 check (used_cpu_millis >= 0),
    used_memory      bigint not null default 0 check (used_memory >= 0),
    used_disk        bigint not null default 0 check (used_disk >= 0),
    revision         bigint not null default 1,
    create_time      timestamptz not null default now(),
    update_time      timestamptz not null default now()
);

create table api_key (
    id            uuid primary key,
    title         text not null,
    project_id    uuid references project on delete cascade,
    role          text not null,
    prefix        text not null,
    secret_sha256 bytea not null unique,
    create_time   timestamptz not null default now(),
    expire_time   timestamptz,
    revoke_time   timestamptz,
    last_use_time timestamptz
);

-- Answers of mutations, kept for 24 h, so that a repeat has one effect. Written in the transaction of the effect.
create table idempotency (
    principal    text not null,
    request_id   text not null,
    method       text not null,
    -- hash of the request and the answer, sealed: both may carry secrets; empty until the effect is done
    answer       bytea not null default '',
    expire_time  timestamptz not null,
    primary key (principal, request_id)
);
create index idempotency_expire on idempotency (expire_time);

create table host (
    id                 uuid primary key,
    name               text not null unique,
    region             text not null default '',
    zone               text not null default '',
    labels             jsonb not null default '{}',
    state              text not null,
    cordoned           boolean not null default false,
    cpu_overcommit     double precision not null default 4.0,
    memory_overcommit  double precision not null default 1.0,
    disk_overcommit    double precision not null default 1.0,
    cost_weight        double precision not null default 1.0,
    -- reported by the agent
    address            text not null default '',
    port_low           integer not null default 0,
    port_high          integer not null default 0,
    -- where other agents reach this one; 0 if they cannot
    peer_port          integer not null default 0,
    capacity_cpu_millis bigint not null default 0,
    capacity_memory    bigint not null default 0,
    capacity_disk      bigint not null default 0,
    engines            jsonb not null default '[]',
    agent_version      text not null default '',
    boot_id            text not null default '',
    session_id         text not null default '',
    -- the last happening stored of that session
    happenings         bigint not null default 0,
    orphans            jsonb not null default '[]',
    load               jsonb not null default '{}',
    last_seen_time     timestamptz,
    -- row-locked counters of what members reserve
    reserved_cpu_millis bigint not null default 0 check (reserved_cpu_millis >= 0),
    reserved_memory    bigint not null default 0 check (reserved_memory >= 0),
    reserved_disk      bigint not null default 0 check (reserved_disk >= 0),
    certificate_expire_time timestamptz,
    revoke_time        timestamptz,
    revision           bigint not null default 1,
    create_time        timestamptz not null default now()
) with (fillfactor = 80);

-- Whom each node heard last that does not judge silence itself. Unlogged: it is told again every few seconds.
create unlogged table node_sight (
    node       uuid primary key,
    hosts      uuid[] not null,
    store_time timestamptz not null default now()
);

create table join_token (
    id            uuid primary key,
    secret_sha256 bytea not null unique,
    -- host or proxy: what may enrol with it
    purpose       text not null default 'host',
    host_name     text not null default '',
    region        text not null default '',
    zone          text not null default '',
    labels        jsonb not null default '{}',
    create_time   timestamptz not null default now(),
    expire_time   timestamptz not null,
    revoke_time   timestamptz,
    use_time      timestamptz,
    -- SHA-256 of the public key that used it: the same one may repeat a lost enrolment
    used_by_key   bytea,
    host_id       uuid references host,
    proxy_id      uuid
);

create table host_certificate (
    serial      text primary key,
    host_id     uuid not null references host,
    create_time timestamptz not null default now(),
    not_after   timestamptz not null,
    revoke_time timestamptz
);
create index host_certificate_host on host_certificate (host_id);

create table engine_catalogue (
    engine       text not null,
    version      text not null,
    full_version text not null,
    digest       text not null,
    catalogue    jsonb not null,
    update_time  timestamptz not null default now(),
    primary key (engine, version, full_version)
);

create table instance (
    id                  uuid primary key,
    project_id          uuid not null references project,
    name                text not null,
    labels              jsonb not null default '{}',
    engine              text not null,
    version             text not null,
    spec                jsonb not null,
    generation          bigint not null default 1,
    observed_generation bigint not null default 0,
    lifecycle           text not null,
    health              text not null default 'UNKNOWN',
    health_reasons      jsonb not null default '[]',
    pending_restart     jsonb not null default '[]',
    error               jsonb,
    -- what the scheduler said at the last placement, for explain
    placement           jsonb not null default '[]',
    shard               smallint not null,
    revision            bigint not null default 1,
    last_operation_id   uuid,
    create_time         timestamptz not null default now(),
    update_time         timestamptz not null default now(),
    delete_time         timestamptz,
    purge_time          timestamptz
);
-- a deleted instance's name is free again
create unique index instance_name on instance (project_id, name) where lifecycle <> 'DELETED';
create index instance_project on instance (project_id, id);
create index instance_purge on instance (purge_time) where purge_time is not null;

create table member (
    id            uuid primary key,
    instance_id   uuid not null references instance on delete cascade,
    host_id       uuid not null references host,
    role          text not null default 'primary',
    -- never acknowledges commits, never promoted by itself
    asynchronous  boolean not null default false,
    -- null once the port is given back
    port          integer,
    -- what is reserved on the host for it now
    cpu_millis    bigint not null,
    memory_bytes  bigint not null,
    disk_bytes    bigint not null,
    -- facts, written on transitions
    process       text not null default 'UNKNOWN',
    facts         jsonb not null default '{}',
    observed_generation bigint not null default 0,
    observed_time timestamptz,
    create_time   timestamptz not null default now(),
    unique (host_id, port)
);
create index member_instance on member (instance_id);

-- Ports that something else on a host was found to hold; not given out until then.
create table blocked_port (
    host_id uuid not null references host on delete cascade,
    port    integer not null,
    until   timestamptz not null,
    primary key (host_id, port)
);

-- Replicated instances: who leads, whose receipts count, what each member is ordered. Every change is one
-- compare-and-set on (epoch, rev), under the owner's epoch.
create table ha_cluster (
    instance_id uuid primary key references instance on delete cascade,
    shard       smallint not null,
    epoch       bigint not null,
    rev         bigint not null,
    -- windlass_logic::ha::Cluster
    state       jsonb not null,
    update_time timestamptz not null default now()
) with (fillfactor = 50);

-- What the node that decides waits for, so that every node can say it. Unlogged: it is told again every few seconds.
create unlogged table ha_waits (
    one        boolean primary key default true check (one),
    -- instance id -> sentences
    waits      jsonb not null,
    store_time timestamptz not null default now()
);

-- Programs that route clients.
create table proxy (
    id             uuid primary key,
    name           text not null unique,
    address        text not null default '',
    port           integer not null default 0,
    domain         text not null default '',
    proxy_version  text not null default '',
    session_id     text not null default '',
    last_seen_time timestamptz,
    certificate_expire_time timestamptz,
    revoke_time    timestamptz,
    create_time    timestamptz not null default now()
);

-- Where clients reach an instance; derived from members and proxies, kept for listing and for naming services.
create table endpoint (
    instance_id uuid not null references instance on delete cascade,
    -- primary or replica
    role        text not null,
    -- proxy or direct
    via         text not null,
    host        text not null,
    port        integer not null,
    update_time timestamptz not null default now(),
    primary key (instance_id, role, via, host, port)
);

-- Users, databases and extensions as wanted.
create table database_object (
    instance_id   uuid not null references instance on delete cascade,
    kind          text not null,
    name          text not null,
    state         text not null,
    owner         text not null default '',
    database      text not null default '',
    databases     jsonb not null default '[]',
    administrator boolean not null default false,
    verifier      text not null default '',
    -- a user's password, sealed by the installation's key; needed for `connect`
    secret_sealed bytea,
    create_time   timestamptz not null default now(),
    primary key (instance_id, kind, name, database)
);

create table operation (
    id          uuid primary key,
    project_id  uuid references project on delete cascade,
    -- no foreign key: operations outlive a purged instance
    instance_id uuid,
    kind        text not null,
    target      text not null,
    state       text not null,
    error       jsonb,
    actor       text not null,
    revision    bigint not null default 1,
    create_time timestamptz not null default now(),
    end_time    timestamptz
);
-- one operation at a time works on an instance
create unique index operation_busy on operation (instance_id)
    where instance_id is not null and state not in ('SUCCEEDED', 'FAILED', 'CANCELLED');
create index operation_list on operation (project_id, id);
create index operation_target on operation (target, id);

-- How an operation is carried out. `data` is the saga's typed state; `cursor` the step it stands at.
create table saga (
    id               uuid primary key references operation on delete cascade,
    kind             text not null,
    version          integer not null,
    shard            smallint not null,
    direction        text not null default 'FORWARD',
    cursor           integer not null default 0,
    attempt          integer not null default 0,
    data             jsonb not null,
    cancel_requested boolean not null default false,
    -- when the executor shall look at it next; null while parked until a command ends
    wake_at          timestamptz default now(),
    done             boolean not null default false,
    -- the epoch of the last writer
    epoch            bigint not null default 0,
    update_time      timestamptz not null default now()
);
create index saga_wake on saga (wake_at) where not done;

create table saga_step (
    saga_id    uuid not null references saga on delete cascade,
    index      integer not null,
    name       text not null,
    title      text not null,
    state      text not null,
    attempt    integer not null default 0,
    detail     text not null default '',
    start_time timestamptz not null default now(),
    end_time   timestamptz,
    primary key (saga_id, index)
);

create table command (
    id               bigint generated always as identity primary key,
    uid              uuid not null unique,
    shard            smallint not null,
    host_id          uuid not null references host,
    instance_id      uuid,
    member_id        uuid,
    saga_id          uuid,
    -- epoch of the owner that queued it
    epoch            bigint not null,
    generation       bigint not null default 0,
    kind             text not null,
    args             jsonb not null,
    state            text not null default 'QUEUED',
    attempt          integer not null default 0,
    lease_until      timestamptz,
    cancel_requested boolean not null default false,
    -- not begun by then: EXPIRED; null never expires
    expire_time      timestamptz,
    timeout_ms       bigint not null default 60000,
    result           jsonb,
    create_time      timestamptz not null default now(),
    end_time         timestamptz
);
create index command_queued on command (host_id, id) where state = 'QUEUED';
create index command_leased on command (lease_until) where state = 'LEASED';
create index command_expire on command (expire_time) where state = 'QUEUED' and expire_time is not null;
create index command_saga on command (saga_id) where saga_id is not null;
create index command_ended on command (end_time) where end_time is not null;
-- removals that did not work, for the reconciler
create index command_removal on command (member_id)
    where kind in ('member.remove', 'member.purge') and state in ('FAILED', 'EXPIRED', 'CANCELLED');
-- commands of one member are carried out one after the other
create unique index command_in_flight on command (member_id) where state = 'LEASED' and member_id is not null;

create table event (
    id           bigint generated always as identity primary key,
    time         timestamptz not null default now(),
    severity     text not null,
    kind         text not null,
    target       text not null,
    project_id   uuid references project on delete cascade,
    host_id      uuid,
    instance_id  uuid,
    operation_id uuid,
    actor        text not null,
    message      text not null,
    data         jsonb not null default '{}'
);
create index event_project on event (project_id, id);
create index event_target on event (target, id);
