-- What PostgreSQL has besides `tables.sql`. Each change of a number adds a row of +1 or -1, so that no two transactions
-- wait for the same row. The service folds them.

-- A vacuum of large tables before a fifth of them is dead. Keys of idempotency are inserted and changed twice, and with
-- half of a page free the changes stay on it and touch no index.

ALTER TABLE tickets SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE messages SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE case_clocks SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE search_documents SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE audit_log SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
ALTER TABLE idempotency_keys SET (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);

-- The number of cases, without synthetic ones.

CREATE TABLE case_counts (
    status VARCHAR(16) NOT NULL,
    priority VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL
);

CREATE FUNCTION count_case() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN INSERT INTO case_counts VALUES (old.status, old.priority, -1); END IF;
        IF TG_OP <> 'DELETE' THEN INSERT INTO case_counts VALUES (new.status, new.priority, 1); END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER case_counts_insert AFTER INSERT ON tickets FOR EACH ROW
    WHEN (NOT coalesce(new.synthetic, new.channel = 'synthetic')) EXECUTE FUNCTION count_case();
CREATE TRIGGER case_counts_delete AFTER DELETE ON tickets FOR EACH ROW
    WHEN (NOT coalesce(old.synthetic, old.channel = 'synthetic')) EXECUTE FUNCTION count_case();
CREATE TRIGGER case_counts_update AFTER UPDATE OF status, priority ON tickets FOR EACH ROW
    WHEN ((old.status <> new.status OR old.priority <> new.priority)
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    EXECUTE FUNCTION count_case();

-- The number of open and pending cases of each agent, without synthetic ones.

CREATE TABLE agent_counts (
    agent_id VARCHAR(36) NOT NULL,
    status VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL
);

CREATE FUNCTION count_case_of_agent() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' AND (old.assigned_agent_id IS NOT NULL AND old.status IN ('open', 'pending')
            AND NOT coalesce(old.synthetic, old.channel = 'synthetic')) THEN
            INSERT INTO agent_counts VALUES (old.assigned_agent_id, old.status, -1);
        END IF;
        IF TG_OP <> 'DELETE' AND (new.assigned_agent_id IS NOT NULL AND new.status IN ('open', 'pending')
            AND NOT coalesce(new.synthetic, new.channel = 'synthetic')) THEN
            INSERT INTO agent_counts VALUES (new.assigned_agent_id, new.status, 1);
        END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER agent_counts_insert AFTER INSERT ON tickets FOR EACH ROW
    WHEN (new.assigned_agent_id IS NOT NULL AND new.status IN ('open', 'pending')
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    EXECUTE FUNCTION count_case_of_agent();
CREATE TRIGGER agent_counts_delete AFTER DELETE ON tickets FOR EACH ROW
    WHEN (old.assigned_agent_id IS NOT NULL AND old.status IN ('open', 'pending')
        AND NOT coalesce(old.synthetic, old.channel = 'synthetic'))
    EXECUTE FUNCTION count_case_of_agent();
CREATE TRIGGER agent_counts_update AFTER UPDATE OF status, assigned_agent_id ON tickets FOR EACH ROW
    WHEN (old.status <> new.status OR coalesce(old.assigned_agent_id, '') <> coalesce(new.assigned_agent_id, ''))
    EXECUTE FUNCTION count_case_of_agent();

-- The number of clocks that run.

CREATE TABLE clock_counts (
    target VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL
);

CREATE FUNCTION count_clock() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO clock_counts VALUES (coalesce(new.target, old.target), TG_ARGV[0]::bigint);
        RETURN NULL;
    END $$;

CREATE TRIGGER clock_counts_insert AFTER INSERT ON case_clocks FOR EACH ROW
    WHEN (new.state = 'running') EXECUTE FUNCTION count_clock('1');
CREATE TRIGGER clock_counts_delete AFTER DELETE ON case_clocks FOR EACH ROW
    WHEN (old.state = 'running') EXECUTE FUNCTION count_clock('-1');
CREATE TRIGGER clock_counts_start AFTER UPDATE OF state ON case_clocks FOR EACH ROW
    WHEN (new.state = 'running' AND NOT old.state = 'running') EXECUTE FUNCTION count_clock('1');
CREATE TRIGGER clock_counts_stop AFTER UPDATE OF state ON case_clocks FOR EACH ROW
    WHEN (old.state = 'running' AND NOT new.state = 'running') EXECUTE FUNCTION count_clock('-1');

-- Tags, waiting times, and what ends with a status.

CREATE FUNCTION index_tags() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM ticket_tags
            WHERE seq = old.seq AND tag IN (SELECT each FROM jsonb_array_elements_text(old.tags) AS each);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO ticket_tags (tag, seq) SELECT each, new.seq FROM jsonb_array_elements_text(new.tags) AS each
            ON CONFLICT DO NOTHING;
        END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER ticket_tags_insert AFTER INSERT ON tickets FOR EACH ROW
    WHEN (new.tags <> '[]') EXECUTE FUNCTION index_tags();
CREATE TRIGGER ticket_tags_delete AFTER DELETE ON tickets FOR EACH ROW
    WHEN (old.tags <> '[]') EXECUTE FUNCTION index_tags();
CREATE TRIGGER ticket_tags_update AFTER UPDATE OF tags ON tickets FOR EACH ROW
    WHEN (old.tags <> new.tags) EXECUTE FUNCTION index_tags();

CREATE FUNCTION wait_since_opening() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        new.waiting_since = new.created_at;
        RETURN new;
    END $$;

CREATE TRIGGER tickets_waiting_insert BEFORE INSERT ON tickets FOR EACH ROW
    WHEN (new.waiting_since IS NULL AND new.answered_at IS NULL AND new.description <> '')
    EXECUTE FUNCTION wait_since_opening();

CREATE FUNCTION snooze_ended() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        new.snoozed_until = NULL;
        RETURN new;
    END $$;

CREATE TRIGGER snooze_ended BEFORE UPDATE OF status ON tickets FOR EACH ROW
    WHEN (new.status <> 'pending' AND new.snoozed_until IS NOT NULL) EXECUTE FUNCTION snooze_ended();

CREATE FUNCTION duplicate_reopened() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE case_links SET previous_status = NULL, previous_snoozed_until = NULL
        WHERE previous_status IS NOT NULL AND case_id = new.id;
        RETURN new;
    END $$;

CREATE TRIGGER duplicate_reopened AFTER UPDATE OF status ON tickets FOR EACH ROW
    WHEN (old.status = 'closed' AND new.status <> 'closed') EXECUTE FUNCTION duplicate_reopened();

-- Search. The key of a document is the `seq` of its case times 2**20 plus a number, which is 0 for the case itself.
-- Triggers keep the documents of cases, the service those of messages. A document has the words with their places:
-- PostgreSQL's own parser would split and drop words, depending on the locale. It also has two words that stand for the
-- ranges of 2**14 and 2**17 cases that the case is in, because a search asks for newer ones first. `fastupdate` would
-- leave new words in a list that each search has to read from start to end.

CREATE INDEX ix_search_documents_words ON search_documents USING gin (words) WITH (fastupdate = off);

CREATE FUNCTION search_vector(words text, seq bigint) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (
        coalesce(string_agg(word || ':' || least(place, 16383), ' '), '')
        || format(' r14_%s r17_%s', seq >> 14, seq >> 17)
    )::tsvector
    FROM unnest(string_to_array(words, ' ')) WITH ORDINALITY AS parts(word, place) WHERE word <> ''
$$;

CREATE FUNCTION tickets_search() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            DELETE FROM search_documents WHERE id BETWEEN OLD.seq << 20 AND (OLD.seq << 20) + 1048575;
        ELSE
            INSERT INTO search_documents(id, internal, words)
            VALUES (NEW.seq << 20, false, search_vector(NEW.search_text, NEW.seq))
            ON CONFLICT (id) DO UPDATE SET words = excluded.words;
        END IF;
        RETURN NULL;
    END $$;

CREATE TRIGGER tickets_search AFTER INSERT OR DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION tickets_search();
CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets FOR EACH ROW
    WHEN (old.search_text IS DISTINCT FROM new.search_text) EXECUTE FUNCTION tickets_search();

-- The audit log is append-only. An entry changes when it is sealed, and when its content is detached.

CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
    END $$;

CREATE FUNCTION audit_log_refuse_attached() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF old.position IS NULL OR old.position > coalesce((SELECT detached_position FROM audit_head), 0) THEN
            RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN old;
    END $$;

CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_refuse_attached();
CREATE TRIGGER audit_log_keeps_all BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse();
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW
    WHEN (NOT (
        new.seq IS NOT DISTINCT FROM old.seq AND new.at IS NOT DISTINCT FROM old.at
        AND new.actor IS NOT DISTINCT FROM old.actor AND new.role IS NOT DISTINCT FROM old.role
        AND new.action IS NOT DISTINCT FROM old.action AND new.case_id IS NOT DISTINCT FROM old.case_id
        AND new.request_id IS NOT DISTINCT FROM old.request_id
        AND (
            (old.position IS NULL AND new.position IS NOT NULL AND new.changes IS NOT DISTINCT FROM old.changes)
            OR (
                new.position IS NOT DISTINCT FROM old.position AND new.digest IS NOT DISTINCT FROM old.digest
                AND new.hash IS NOT DISTINCT FROM old.hash AND new.changes IS NULL AND new.salt IS NULL
            )
        )
    ))
    EXECUTE FUNCTION audit_log_refuse();

INSERT INTO audit_head (id, position, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

-- Reports: what happens to cases, without synthetic ones.

CREATE FUNCTION report_opened() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
        SELECT 'opened', id, created_at, created_at, team, assigned_agent_id, channel FROM tickets
        WHERE id = new.case_id AND NOT coalesce(tickets.synthetic, tickets.channel = 'synthetic');
        RETURN NULL;
    END $$;

CREATE TRIGGER report_opened AFTER INSERT ON audit_log FOR EACH ROW
    WHEN (new.action = 'case.opened') EXECUTE FUNCTION report_opened();

CREATE FUNCTION report_answered() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
        VALUES ('answered', new.id, new.answered_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
        RETURN NULL;
    END $$;

CREATE TRIGGER report_answered AFTER UPDATE OF answered_at ON tickets FOR EACH ROW
    WHEN (old.answered_at IS NULL AND new.answered_at IS NOT NULL
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    EXECUTE FUNCTION report_answered();

CREATE FUNCTION report_solved() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
        VALUES ('solved', new.id, new.updated_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
        INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.id, new.updated_at, 0, 0)
        ON CONFLICT (case_id) DO UPDATE SET solved_at = excluded.solved_at;
        RETURN NULL;
    END $$;

CREATE TRIGGER report_solved AFTER UPDATE OF status ON tickets FOR EACH ROW
    WHEN (old.status IN ('open', 'pending') AND NOT new.status IN ('open', 'pending')
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    EXECUTE FUNCTION report_solved();

CREATE FUNCTION report_reopened() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
        VALUES ('reopened', new.id, new.updated_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
        INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.id, NULL, 1, 0)
        ON CONFLICT (case_id) DO UPDATE SET solved_at = NULL, reopened = case_results.reopened + 1;
        RETURN NULL;
    END $$;

CREATE TRIGGER report_reopened AFTER UPDATE OF status ON tickets FOR EACH ROW
    WHEN (NOT old.status IN ('open', 'pending') AND new.status IN ('open', 'pending')
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    EXECUTE FUNCTION report_reopened();

CREATE FUNCTION report_breached() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
        SELECT new.target, id, new.due_at, new.due_at, team, assigned_agent_id, channel FROM tickets
        WHERE id = new.case_id;
        INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.case_id, NULL, 0, 1)
        ON CONFLICT (case_id) DO UPDATE SET breaches = case_results.breaches + 1;
        RETURN NULL;
    END $$;

CREATE TRIGGER report_breached AFTER UPDATE OF state ON case_clocks FOR EACH ROW
    WHEN (old.state <> 'breached' AND new.state = 'breached' AND new.due_at IS NOT NULL)
    EXECUTE FUNCTION report_breached();
