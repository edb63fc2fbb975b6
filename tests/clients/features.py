"""What psycopg 2 and 3 offer, against whatever PGHOST and so on name."""

import asyncio
import io
import threading
import time
import uuid

import psycopg
import psycopg2
import psycopg2.extensions
import psycopg2.extras


def second():
    print("psycopg2: parameters, types, errors")
    conn = psycopg2.connect("application_name=suite-psycopg2")
    cur = conn.cursor()
    cur.execute("drop table if exists py_suite")
    cur.execute("create table py_suite(id int primary key, name text, tags text[], body jsonb)")
    cur.execute("insert into py_suite values (%s, %s, %s, %s)", (1, "one", ["a", "b"], psycopg2.extras.Json({"k": [1]})))
    psycopg2.extras.execute_values(cur, "insert into py_suite(id, name) values %s", [(n, str(n)) for n in range(2, 500)])
    conn.commit()
    cur.execute("select tags, body from py_suite where id = 1")
    assert cur.fetchone() == (["a", "b"], {"k": [1]})
    try:
        cur.execute("insert into py_suite(id) values (1)")
        raise AssertionError("a duplicate key went in")
    except psycopg2.errors.UniqueViolation as error:
        assert error.diag.constraint_name == "py_suite_pkey"
    conn.rollback()

    print("psycopg2: COPY both ways, named cursor, large object")
    cur.copy_expert("copy py_suite(id, name) from stdin with csv", io.StringIO("".join(f"{n},x\n" for n in range(1000, 6000))))
    out = io.StringIO()
    cur.copy_expert("copy (select id from py_suite where id >= 1000) to stdout", out)
    assert out.getvalue().count("\n") == 5000
    conn.commit()
    with conn.cursor(name="some") as named:
        named.itersize = 100
        named.execute("select generate_series(1, 1000)")
        assert sum(row[0] for row in named) == 500500
    conn.commit()
    blob = conn.lobject(0, "wb")
    blob.write(b"z" * 300000)
    oid = blob.oid
    conn.commit()
    assert len(conn.lobject(oid, "rb").read()) == 300000
    conn.lobject(oid).unlink()
    conn.commit()

    print("psycopg2: cancel, LISTEN")
    threading.Timer(0.2, conn.cancel).start()
    try:
        cur.execute("select pg_sleep(30)")
        raise AssertionError("the cancel did not arrive")
    except psycopg2.extensions.QueryCanceledError:
        conn.rollback()
    conn.set_session(autocommit=True)
    cur.execute("listen py_suite")
    cur.execute("notify py_suite, 'to itself'")
    begin = time.monotonic()
    while not conn.notifies and time.monotonic() - begin < 10:
        time.sleep(0.02)
        conn.poll()
    assert conn.notifies[0].payload == "to itself"
    cur.execute("unlisten *")
    conn.close()


def third():
    print("psycopg 3: parameters, prepared statements, binary")
    with psycopg.connect("application_name=suite-psycopg3") as conn:
        conn.prepare_threshold = 2
        for number in range(20):
            row = conn.execute("select %s::int + 1, %s::uuid, %b::bytea", (number, uuid.UUID(int=number), bytes([number]))).fetchone()
            assert row == (number + 1, uuid.UUID(int=number), bytes([number])), row
        conn.commit()

        print("psycopg 3: pipelines, with errors")
        with conn.pipeline() as pipeline:
            cursors = [conn.execute("select %s::int", (number,)) for number in range(200)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
        conn.commit()
        try:
            with conn.pipeline():
                conn.execute("insert into py_suite(id) values (100000)")
                conn.execute("select 1/0")
                conn.execute("insert into py_suite(id) values (100001)")
            raise AssertionError("the division by zero succeeded")
        except (psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted):
            conn.rollback()
        assert conn.execute("select count(*) from py_suite where id >= 100000").fetchone() == (0,)
        with conn.cursor() as cur:
            cur.executemany("insert into py_suite(id, name) values (%s, %s)", [(n, "many") for n in range(20000, 21000)])
        conn.commit()

        print("psycopg 3: COPY both ways, also binary, named cursors, savepoints")
        with conn.cursor() as cur:
            with cur.copy("copy py_suite(id, name) from stdin") as copy:
                for number in range(30000, 32000):
                    copy.write_row((number, "row"))
            with cur.copy("copy (select id, name from py_suite where id >= 30000) to stdout (format binary)") as copy:
                copy.set_types(["int4", "text"])
                assert sum(1 for _ in copy.rows()) == 2000
            try:
                with cur.copy("copy py_suite(id) from stdin") as copy:
                    copy.write_row((40000,))
                    raise ValueError("thought better of it")
            except psycopg.errors.QueryCanceled as error:
                assert "thought better of it" in str(error)
        conn.rollback()
        assert conn.execute("select count(*) from py_suite where id = 40000").fetchone() == (0,)
        conn.commit()
        with conn.transaction(), conn.cursor("named", scrollable=True) as cur:
            cur.execute("select generate_series(1, 300)")
            cur.scroll(100)
            assert cur.fetchone() == (101,)
        try:
            with conn.transaction():
                conn.execute("insert into py_suite(id) values (50000)")
                with conn.transaction():
                    conn.execute("select 1/0")
        except psycopg.errors.DivisionByZero:
            pass
        assert conn.execute("select count(*) from py_suite where id = 50000").fetchone() == (0,)
        conn.commit()

        print("psycopg 3: cancel, notices")
        threading.Timer(0.2, conn.cancel).start()
        try:
            conn.execute("select pg_sleep(30)")
            raise AssertionError("the cancel did not arrive")
        except psycopg.errors.QueryCanceled:
            conn.rollback()
        seen = []
        conn.add_notice_handler(lambda diag: seen.append(diag.message_primary))
        conn.execute("do $$ begin raise notice 'heard'; end $$")
        assert seen == ["heard"]


async def third_async():
    print("psycopg 3: asynchronous, LISTEN, many connections")
    async with await psycopg.AsyncConnection.connect(autocommit=True) as conn:
        await conn.execute("listen py_async")
        async with await psycopg.AsyncConnection.connect(autocommit=True) as other:
            await other.execute("notify py_async, 'hello'")
        async for note in conn.notifies():
            assert note.payload == "hello"
            break

    async def one(number):
        async with await psycopg.AsyncConnection.connect() as conn:
            cur = await conn.execute("select %s::int", (number,))
            assert await cur.fetchone() == (number,)

    await asyncio.gather(*(one(number) for number in range(20)))
    async with await psycopg.AsyncConnection.connect(autocommit=True) as conn:
        await conn.execute("drop table py_suite")


second()
third()
asyncio.run(third_async())
print("done")
