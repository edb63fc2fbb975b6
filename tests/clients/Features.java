import java.io.*;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.*;

/** What the JDBC driver offers, against whatever PGHOST and so on name. */
public class Features {
    static void must(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static Connection open(String more) throws SQLException {
        Properties login = new Properties();
        login.setProperty("user", System.getenv("PGUSER"));
        login.setProperty("password", System.getenv("PGPASSWORD"));
        String mode = System.getenv().getOrDefault("PGSSLMODE", "disable");
        login.setProperty("sslmode", mode);
        if (!mode.equals("disable")) {
            login.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        }
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE") + "?ApplicationName=suite-jdbc" + more;
        return DriverManager.getConnection(url, login);
    }

    static void statements(Connection conn) throws Exception {
        System.out.println("statements, server-side prepared after some turns");
        try (Statement st = conn.createStatement()) {
            st.execute("drop table if exists jdbc_suite");
            st.execute("create table jdbc_suite(id serial primary key, name text, tags int[], at timestamptz)");
        }
        String insert = "insert into jdbc_suite(name, tags, at) values (?, ?, ?)";
        try (PreparedStatement ps = conn.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (int turn = 1; turn <= 20; turn++) {
                ps.setString(1, "name " + turn);
                ps.setArray(2, conn.createArrayOf("int4", new Integer[] {turn, turn * 2}));
                ps.setTimestamp(3, new Timestamp(turn * 1000L));
                must(ps.executeUpdate() == 1, "one row");
                try (ResultSet keys = ps.getGeneratedKeys()) {
                    must(keys.next() && keys.getInt(1) == turn, "generated key");
                }
            }
        }
        try (PreparedStatement ps = conn.prepareStatement("select tags from jdbc_suite where id = ?")) {
            for (int turn = 1; turn <= 20; turn++) {
                ps.setInt(1, turn);
                try (ResultSet rs = ps.executeQuery()) {
                    must(rs.next(), "a row");
                    must(((Integer[]) rs.getArray(1).getArray())[1] == turn * 2, "an array");
                }
            }
        }
        try (Statement st = conn.createStatement()) {
            must(st.execute("select 1; select 2"), "two results");
            must(st.getMoreResults(), "the second");
        }
    }

    static void batches(Connection conn) throws Exception {
        System.out.println("batches, with errors");
        conn.setAutoCommit(false);
        try (PreparedStatement ps = conn.prepareStatement("insert into jdbc_suite(id, name) values (?, ?)")) {
            for (int id = 1000; id < 3000; id++) {
                ps.setInt(1, id);
                ps.setString(2, "batch");
                ps.addBatch();
            }
            must(ps.executeBatch().length == 2000, "2000 rows");
            conn.commit();
            for (int id : new int[] {5000, 5001, 1000, 5002}) {
                ps.setInt(1, id);
                ps.setString(2, "batch");
                ps.addBatch();
            }
            try {
                ps.executeBatch();
                must(false, "a duplicate key went in");
            } catch (BatchUpdateException expected) {
                must(expected.getSQLState().equals("23505"), expected.getSQLState());
            }
            conn.rollback();
        }
        Savepoint before = conn.setSavepoint();
        try (Statement st = conn.createStatement()) {
            st.execute("select 1/0");
            must(false, "a division by zero");
        } catch (SQLException expected) {
            conn.rollback(before);
        }
        try (Statement st = conn.createStatement(); ResultSet rs = st.executeQuery("select count(*) from jdbc_suite where id >= 5000")) {
            must(rs.next() && rs.getInt(1) == 0, "rolled back");
        }
        conn.commit();
    }

    static void cursors(Connection conn) throws Exception {
        System.out.println("fetch size, large objects");
        try (Statement st = conn.createStatement()) {
            st.setFetchSize(100);
            long sum = 0;
            try (ResultSet rs = st.executeQuery("select generate_series(1, 10000)")) {
                while (rs.next()) {
                    sum += rs.getInt(1);
                }
            }
            must(sum == 50005000L, "every row");
        }
        LargeObjectManager blobs = conn.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = blobs.createLO(LargeObjectManager.READ | LargeObjectManager.WRITE);
        byte[] bytes = new byte[200000];
        new Random(1).nextBytes(bytes);
        try (LargeObject blob = blobs.open(oid, LargeObjectManager.WRITE)) {
            blob.write(bytes);
        }
        try (LargeObject blob = blobs.open(oid, LargeObjectManager.READ)) {
            must(Arrays.equals(blob.read(bytes.length), bytes), "the same bytes");
        }
        blobs.delete(oid);
        conn.commit();
        conn.setAutoCommit(true);
    }

    static void copies(Connection conn) throws Exception {
        System.out.println("COPY both ways");
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder text = new StringBuilder();
        for (int id = 10000; id < 15000; id++) {
            text.append(id).append("\tcopied\n");
        }
        must(copy.copyIn("copy jdbc_suite(id, name) from stdin", new StringReader(text.toString())) == 5000, "5000 in");
        StringWriter out = new StringWriter();
        must(copy.copyOut("copy (select id, name from jdbc_suite where id >= 10000 order by id) to stdout", out) == 5000, "5000 out");
        must(out.toString().contentEquals(text), "the same text");
    }

    static void cancel(Connection conn) throws Exception {
        System.out.println("cancel, timeout, LISTEN, metadata");
        try (Statement st = conn.createStatement()) {
            ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
            later.schedule(() -> { st.cancel(); return null; }, 200, TimeUnit.MILLISECONDS);
            st.execute("select pg_sleep(30)");
            must(false, "the cancel did not arrive");
        } catch (SQLException expected) {
            must(expected.getSQLState().equals("57014"), expected.getSQLState());
        }
        try (Statement st = conn.createStatement()) {
            st.setQueryTimeout(1);
            st.execute("select pg_sleep(30)");
            must(false, "the timeout did not come");
        } catch (SQLException expected) {
            must(expected.getSQLState().equals("57014"), expected.getSQLState());
        }
        try (Statement st = conn.createStatement(); Connection other = open("")) {
            st.execute("listen jdbc_suite");
            try (Statement there = other.createStatement()) {
                there.execute("notify jdbc_suite, 'hello'");
            }
            org.postgresql.PGNotification[] notes = conn.unwrap(PGConnection.class).getNotifications(10000);
            must(notes != null && notes.length == 1 && notes[0].getParameter().equals("hello"), "a notification");
            st.execute("unlisten *");
        }
        try (ResultSet rs = conn.getMetaData().getColumns(null, null, "jdbc_suite", null)) {
            int columns = 0;
            while (rs.next()) {
                columns++;
            }
            must(columns == 4, "four columns");
        }
        conn.setReadOnly(true);
        conn.setAutoCommit(false);
        try (Statement st = conn.createStatement()) {
            st.execute("insert into jdbc_suite(name) values ('no')");
            must(false, "written in a read-only transaction");
        } catch (SQLException expected) {
            must(expected.getSQLState().equals("25006"), expected.getSQLState());
        }
        conn.rollback();
        conn.setAutoCommit(true);
        conn.setReadOnly(false);
    }

    public static void main(String[] arguments) throws Exception {
        Thread watchdog = new Thread(() -> {
            try {
                Thread.sleep(60000);
            } catch (InterruptedException ended) {
                return;
            }
            System.err.println("it hangs");
            System.exit(2);
        });
        watchdog.setDaemon(true);
        watchdog.start();
        try (Connection conn = open("")) {
            statements(conn);
            batches(conn);
            cursors(conn);
            copies(conn);
            cancel(conn);
        }
        try (Connection conn = open("&preferQueryMode=simple"); Statement st = conn.createStatement()) {
            st.execute("drop table jdbc_suite");
        }
        try (Connection conn = open("&binaryTransfer=true&prepareThreshold=-1"); Statement st = conn.createStatement();
                ResultSet rs = st.executeQuery("select 1.5::float8, now(), 7::int8")) {
            must(rs.next() && rs.getLong(3) == 7, "binary");
        }
        System.out.println("done");
        System.exit(0);
    }
}
