-- What psql does with a server, in one session. Every step that is not as it should be ends psql with an error.
-- It works in a directory of the test's own.
\set ON_ERROR_STOP on
\set QUIET on
\pset pager off

\echo settings
set application_name = 'suite-psql';
set work_mem = '5MB';
do $$ begin assert current_setting('work_mem') = '5MB'; end $$;
reset work_mem;
begin; set local work_mem = '6MB'; rollback;
do $$ begin assert current_setting('work_mem') <> '6MB'; end $$;

\echo tables, several statements in one message, results of each
drop table if exists psql_suite; drop table if exists psql_copy;
create table psql_suite(id int primary key, name text, at timestamptz default now());
select 1 \; select 2 \; insert into psql_suite values (1, 'one');
select count(*) as rows from psql_suite \gset
select :rows = 1 as good \gset
\if :good
\else
  \warn the insert of several statements is missing
  select 1/0;
\endif

\echo COPY in, COPY out, COPY that fails
copy psql_suite(id, name) from stdin;
2	two
3	\N
4	tab\tand\\backslash
\.
\copy psql_suite(id, name) to 'psql.copy'
create table psql_copy(id int, name text);
\copy psql_copy from 'psql.copy'
do $$ begin assert (select count(*) from psql_copy c join psql_suite s using (id) where c.name is not distinct from s.name) = 4; end $$;
\copy (select generate_series(1, 200000)) to program 'tail -1 | grep -qx 200000'
\set ON_ERROR_STOP off
copy psql_suite(id, name) from stdin;
9	nine
not a number	x
\.
\set ON_ERROR_STOP on
do $$ begin assert not exists (select from psql_suite where id = 9); end $$;

\echo cursors
begin;
declare few scroll cursor for select g from generate_series(1, 1000) g;
fetch forward 10 from few \g /dev/null
move absolute 500 in few;
fetch next from few \gset
select :g = 501 as good \gset
\if :good
\else
  select 1/0;
\endif
close few;
commit;
\set FETCH_COUNT 100
select repeat('x', 1000) from generate_series(1, 1000) \g /dev/null
\unset FETCH_COUNT
begin;
declare held cursor with hold for select g from generate_series(1, 10) g;
commit;
fetch 3 from held \g /dev/null
close held;

\echo errors, savepoints
\set ON_ERROR_STOP off
begin;
insert into psql_suite(id) values (20);
savepoint before;
insert into psql_suite(id) values (20);
select 1;
rollback to before;
insert into psql_suite(id) values (21);
commit;
\set ON_ERROR_STOP on
do $$ begin assert (select count(*) from psql_suite where id in (20, 21)) = 2; end $$;

\echo large objects
select string_agg(md5(g::text), '') as text from generate_series(1, 5000) g \g psql.blob
\lo_import psql.blob
\set imported :LASTOID
\lo_export :imported psql.blob.back
\! cmp psql.blob psql.blob.back && touch psql.blob.same
\lo_unlink :imported

\echo prepared statements, temporary tables, advisory locks
prepare sum(int, int) as select $1 + $2 as sum;
execute sum(40, 2) \gset
select :sum = 42 as good \gset
\if :good
\else
  select 1/0;
\endif
deallocate sum;
create temporary table scratch(a int);
insert into scratch select generate_series(1, 100);
do $$ begin assert (select count(*) from scratch) = 100; end $$;
select pg_advisory_lock(77) \g /dev/null
select count(*) as locks from pg_locks where locktype = 'advisory' and objid = 77 and pid = pg_backend_pid() \gset
select :locks = 1 and pg_advisory_unlock(77) as good \gset
\if :good
\else
  select 1/0;
\endif
discard temp;

\echo notifications, notices
listen suite;
notify suite, 'hello';
unlisten suite;
do $$ begin raise notice 'a notice'; end $$;

\echo timeouts
\set ON_ERROR_STOP off
set statement_timeout = '100ms';
select pg_sleep(10);
reset statement_timeout;
\set ON_ERROR_STOP on
select :'LAST_ERROR_SQLSTATE' = '57014' as good \gset
\if :good
\else
  \warn the timeout did not come: :LAST_ERROR_SQLSTATE
  select 1/0;
\endif

\echo catalogue
\d psql_suite
\dt
\du
\l

\echo big results and big statements
select length(string_agg(repeat('y', 1000), '')) as length from generate_series(1, 10000) \gset
select repeat('z', 5000000) as big \gset
select length(:'big') = 5000000 and :length = 10000000 as good \gset
\if :good
\else
  select 1/0;
\endif

\echo a new connection
\c -
do $$ begin assert (select count(*) from psql_suite) = 6; end $$;
drop table psql_suite; drop table psql_copy;
\echo done
