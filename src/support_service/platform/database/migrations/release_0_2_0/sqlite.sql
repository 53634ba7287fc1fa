-- What SQLite has besides `tables.sql`. One transaction writes at a time, so triggers change numbers in place.

-- The number of cases, without synthetic ones.

CREATE TABLE case_counts (
    status VARCHAR(16) NOT NULL,
    priority VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL,
    CONSTRAINT pk_case_counts PRIMARY KEY (status, priority)
);

CREATE TRIGGER case_counts_insert AFTER INSERT ON tickets WHEN NOT coalesce(new.synthetic, new.channel = 'synthetic')
BEGIN
    INSERT INTO case_counts (status, priority, number) VALUES (new.status, new.priority, 1)
    ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER case_counts_delete AFTER DELETE ON tickets WHEN NOT coalesce(old.synthetic, old.channel = 'synthetic')
BEGIN
    INSERT INTO case_counts (status, priority, number) VALUES (old.status, old.priority, -1)
    ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER case_counts_update AFTER UPDATE OF status, priority ON tickets
WHEN (old.status <> new.status OR old.priority <> new.priority)
    AND NOT coalesce(new.synthetic, new.channel = 'synthetic')
BEGIN
    INSERT INTO case_counts (status, priority, number) VALUES (old.status, old.priority, -1)
    ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number;
    INSERT INTO case_counts (status, priority, number) VALUES (new.status, new.priority, 1)
    ON CONFLICT (status, priority) DO UPDATE SET number = number + excluded.number;
END;

-- The number of open and pending cases of each agent, without synthetic ones.

CREATE TABLE agent_counts (
    agent_id VARCHAR(36) NOT NULL,
    status VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL,
    CONSTRAINT pk_agent_counts PRIMARY KEY (agent_id, status)
);

CREATE TRIGGER agent_counts_insert AFTER INSERT ON tickets
WHEN (new.assigned_agent_id IS NOT NULL AND new.status IN ('open', 'pending')
    AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
BEGIN
    INSERT INTO agent_counts (agent_id, status, number) SELECT new.assigned_agent_id, new.status, 1
    WHERE (new.assigned_agent_id IS NOT NULL AND new.status IN ('open', 'pending')
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER agent_counts_delete AFTER DELETE ON tickets
WHEN (old.assigned_agent_id IS NOT NULL AND old.status IN ('open', 'pending')
    AND NOT coalesce(old.synthetic, old.channel = 'synthetic'))
BEGIN
    INSERT INTO agent_counts (agent_id, status, number) SELECT old.assigned_agent_id, old.status, -1
    WHERE (old.assigned_agent_id IS NOT NULL AND old.status IN ('open', 'pending')
        AND NOT coalesce(old.synthetic, old.channel = 'synthetic'))
    ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER agent_counts_update AFTER UPDATE OF status, assigned_agent_id ON tickets
WHEN (old.status <> new.status OR coalesce(old.assigned_agent_id, '') <> coalesce(new.assigned_agent_id, ''))
BEGIN
    INSERT INTO agent_counts (agent_id, status, number) SELECT old.assigned_agent_id, old.status, -1
    WHERE (old.assigned_agent_id IS NOT NULL AND old.status IN ('open', 'pending')
        AND NOT coalesce(old.synthetic, old.channel = 'synthetic'))
    ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number;
    INSERT INTO agent_counts (agent_id, status, number) SELECT new.assigned_agent_id, new.status, 1
    WHERE (new.assigned_agent_id IS NOT NULL AND new.status IN ('open', 'pending')
        AND NOT coalesce(new.synthetic, new.channel = 'synthetic'))
    ON CONFLICT (agent_id, status) DO UPDATE SET number = number + excluded.number;
END;

-- The number of clocks that run.

CREATE TABLE clock_counts (
    target VARCHAR(16) NOT NULL,
    number BIGINT NOT NULL,
    CONSTRAINT pk_clock_counts PRIMARY KEY (target)
);

CREATE TRIGGER clock_counts_insert AFTER INSERT ON case_clocks WHEN new.state = 'running'
BEGIN
    INSERT INTO clock_counts (target, number) VALUES (new.target, 1)
    ON CONFLICT (target) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER clock_counts_delete AFTER DELETE ON case_clocks WHEN old.state = 'running'
BEGIN
    INSERT INTO clock_counts (target, number) VALUES (old.target, -1)
    ON CONFLICT (target) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER clock_counts_start AFTER UPDATE OF state ON case_clocks
WHEN new.state = 'running' AND NOT old.state = 'running'
BEGIN
    INSERT INTO clock_counts (target, number) VALUES (new.target, 1)
    ON CONFLICT (target) DO UPDATE SET number = number + excluded.number;
END;

CREATE TRIGGER clock_counts_stop AFTER UPDATE OF state ON case_clocks
WHEN old.state = 'running' AND NOT new.state = 'running'
BEGIN
    INSERT INTO clock_counts (target, number) VALUES (old.target, -1)
    ON CONFLICT (target) DO UPDATE SET number = number + excluded.number;
END;

-- Tags, waiting times, and what ends with a status.

CREATE TRIGGER ticket_tags_insert AFTER INSERT ON tickets WHEN new.tags <> '[]'
BEGIN
    INSERT OR IGNORE INTO ticket_tags (tag, seq) SELECT value, new.seq FROM json_each(new.tags);
END;

CREATE TRIGGER ticket_tags_delete AFTER DELETE ON tickets WHEN old.tags <> '[]'
BEGIN
    DELETE FROM ticket_tags WHERE seq = old.seq AND tag IN (SELECT value FROM json_each(old.tags));
END;

CREATE TRIGGER ticket_tags_update AFTER UPDATE OF tags ON tickets WHEN old.tags <> new.tags
BEGIN
    DELETE FROM ticket_tags WHERE seq = old.seq AND tag IN (SELECT value FROM json_each(old.tags));
    INSERT OR IGNORE INTO ticket_tags (tag, seq) SELECT value, new.seq FROM json_each(new.tags);
END;

CREATE TRIGGER tickets_waiting_insert AFTER INSERT ON tickets
WHEN new.waiting_since IS NULL AND new.answered_at IS NULL AND new.description <> ''
BEGIN
    UPDATE tickets SET waiting_since = created_at WHERE seq = new.seq;
END;

CREATE TRIGGER snooze_ended AFTER UPDATE OF status ON tickets
WHEN new.status <> 'pending' AND new.snoozed_until IS NOT NULL
BEGIN
    UPDATE tickets SET snoozed_until = NULL WHERE seq = new.seq;
END;

CREATE TRIGGER duplicate_reopened AFTER UPDATE OF status ON tickets
WHEN old.status = 'closed' AND new.status <> 'closed'
BEGIN
    UPDATE case_links SET previous_status = NULL, previous_snoozed_until = NULL
    WHERE previous_status IS NOT NULL AND case_id = new.id;
END;

-- Search, with an FTS5 index of `search_documents`. The key of a document is the `seq` of its case times 2**20 plus a
-- number, which is 0 for the case itself. Triggers keep the documents of cases, and note the documents that the index
-- lacks. The service adds these to the index before it commits, and adds the documents of messages.

CREATE VIRTUAL TABLE ticket_search USING fts5(
    words, content='search_documents', content_rowid='id', tokenize='unicode61 remove_diacritics 0'
);

CREATE TABLE ticket_search_pending (id INTEGER PRIMARY KEY);

CREATE TRIGGER tickets_search_insert AFTER INSERT ON tickets
BEGIN
    INSERT INTO search_documents(id, internal, words) VALUES (new.seq << 20, false, new.search_text);
END;

CREATE TRIGGER tickets_search_update AFTER UPDATE OF search_text ON tickets
BEGIN
    UPDATE search_documents SET words = new.search_text WHERE id = new.seq << 20;
END;

CREATE TRIGGER tickets_search_delete AFTER DELETE ON tickets
BEGIN
    DELETE FROM search_documents WHERE id BETWEEN old.seq << 20 AND (old.seq << 20) + 1048575;
END;

CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents
BEGIN
    INSERT INTO ticket_search_pending(id) VALUES (new.id);
END;

CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents
BEGIN
    INSERT INTO ticket_search(ticket_search, rowid, words) SELECT 'delete', old.id, old.words
    WHERE NOT EXISTS (SELECT 1 FROM ticket_search_pending WHERE id = old.id);
    DELETE FROM ticket_search_pending WHERE id = old.id;
END;

CREATE TRIGGER search_documents_update AFTER UPDATE ON search_documents
BEGIN
    INSERT INTO ticket_search(ticket_search, rowid, words) SELECT 'delete', old.id, old.words
    WHERE NOT EXISTS (SELECT 1 FROM ticket_search_pending WHERE id = old.id);
    INSERT OR IGNORE INTO ticket_search_pending(id) VALUES (new.id);
END;

-- The audit log is append-only. An entry changes when it is sealed, and when its content is detached.

CREATE TRIGGER audit_log_keeps BEFORE DELETE ON audit_log
WHEN old.position IS NULL OR old.position > coalesce((SELECT detached_position FROM audit_head), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
WHEN NOT (
    new.seq IS old.seq AND new.at IS old.at AND new.actor IS old.actor AND new.role IS old.role
    AND new.action IS old.action AND new.case_id IS old.case_id AND new.request_id IS old.request_id
    AND (
        (old.position IS NULL AND new.position IS NOT NULL AND new.changes IS old.changes)
        OR (
            new.position IS old.position AND new.digest IS old.digest AND new.hash IS old.hash
            AND new.changes IS NULL AND new.salt IS NULL
        )
    )
)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

INSERT INTO audit_head (id, position, hash) VALUES (1, 0, zeroblob(32));

-- Reports: what happens to cases, without synthetic ones.

CREATE TRIGGER report_opened AFTER INSERT ON audit_log FOR EACH ROW WHEN new.action = 'case.opened'
BEGIN
    INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
    SELECT 'opened', id, created_at, created_at, team, assigned_agent_id, channel FROM tickets
    WHERE id = new.case_id AND NOT coalesce(tickets.synthetic, tickets.channel = 'synthetic');
END;

CREATE TRIGGER report_answered AFTER UPDATE OF answered_at ON tickets FOR EACH ROW
WHEN old.answered_at IS NULL AND new.answered_at IS NOT NULL AND NOT coalesce(new.synthetic, new.channel = 'synthetic')
BEGIN
    INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
    VALUES ('answered', new.id, new.answered_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
END;

CREATE TRIGGER report_solved AFTER UPDATE OF status ON tickets FOR EACH ROW
WHEN old.status IN ('open', 'pending') AND NOT new.status IN ('open', 'pending')
    AND NOT coalesce(new.synthetic, new.channel = 'synthetic')
BEGIN
    INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
    VALUES ('solved', new.id, new.updated_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
    INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.id, new.updated_at, 0, 0)
    ON CONFLICT (case_id) DO UPDATE SET solved_at = excluded.solved_at;
END;

CREATE TRIGGER report_reopened AFTER UPDATE OF status ON tickets FOR EACH ROW
WHEN NOT old.status IN ('open', 'pending') AND new.status IN ('open', 'pending')
    AND NOT coalesce(new.synthetic, new.channel = 'synthetic')
BEGIN
    INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
    VALUES ('reopened', new.id, new.updated_at, new.created_at, new.team, new.assigned_agent_id, new.channel);
    INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.id, NULL, 1, 0)
    ON CONFLICT (case_id) DO UPDATE SET solved_at = NULL, reopened = case_results.reopened + 1;
END;

CREATE TRIGGER report_breached AFTER UPDATE OF state ON case_clocks FOR EACH ROW
WHEN old.state <> 'breached' AND new.state = 'breached' AND new.due_at IS NOT NULL
BEGIN
    INSERT INTO report_changes (measure, case_id, at, since, team, agent, channel)
    SELECT new.target, id, new.due_at, new.due_at, team, assigned_agent_id, channel FROM tickets WHERE id = new.case_id;
    INSERT INTO case_results (case_id, solved_at, reopened, breaches) VALUES (new.case_id, NULL, 0, 1)
    ON CONFLICT (case_id) DO UPDATE SET breaches = case_results.breaches + 1;
END;
