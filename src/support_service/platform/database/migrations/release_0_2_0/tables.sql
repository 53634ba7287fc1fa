-- The tables of both databases. `0060_release_0_2_0.py` has the words that differ, which begin with a dollar sign.

CREATE TABLE tickets (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    subject VARCHAR(255) NOT NULL,
    description TEXT,
    customer_id VARCHAR(36),
    status VARCHAR(16) NOT NULL,
    priority VARCHAR(16) NOT NULL,
    channel VARCHAR(32) NOT NULL,
    assigned_agent_id VARCHAR(36),
    context $json NOT NULL,
    tags $json NOT NULL,
    search_text TEXT NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    waiting_since $time,
    answered_at $time,
    timeline_epoch INTEGER DEFAULT '0' NOT NULL,
    team VARCHAR(36),
    version INTEGER DEFAULT '1' NOT NULL,
    conversation_bytes BIGINT DEFAULT '0' NOT NULL,
    internal_changes INTEGER DEFAULT '0' NOT NULL,
    internal_updated_at $time,
    synthetic BOOLEAN,
    external_id VARCHAR(255),
    sent_at $time,
    sla_policy BIGINT,
    sla_due_at $time,
    followers $json,
    snoozed_until $time,
    CONSTRAINT pk_tickets PRIMARY KEY (seq),
    CONSTRAINT uq_tickets_id UNIQUE (id)
);
CREATE INDEX ix_tickets_status_seq ON tickets (status, seq);
CREATE INDEX ix_tickets_customer_id_seq ON tickets (customer_id, seq);
CREATE INDEX ix_tickets_status_priority_seq ON tickets (status, priority, seq);
CREATE INDEX ix_tickets_priority_seq ON tickets (priority, seq);
CREATE INDEX ix_tickets_team_seq ON tickets (team, seq)$with_team;
CREATE INDEX ix_tickets_channel_seq ON tickets (channel, seq);
CREATE INDEX ix_tickets_assigned_agent_id_status_seq_synthetic_channel
    ON tickets (assigned_agent_id, status, seq, synthetic, channel)$with_agent;
CREATE UNIQUE INDEX ix_tickets_channel_external_id ON tickets (channel, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX ix_tickets_latest_change_seq
    ON tickets (($latest(updated_at, coalesce(internal_updated_at, updated_at))), seq);
CREATE INDEX ix_tickets_assigned_agent_id_latest_change_seq
    ON tickets (assigned_agent_id, ($latest(updated_at, coalesce(internal_updated_at, updated_at))), seq)
    WHERE assigned_agent_id IS NOT NULL;
CREATE INDEX ix_tickets_waiting_since_seq ON tickets (waiting_since, seq)
    WHERE waiting_since IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX ix_tickets_status_waiting_since_seq ON tickets (status, waiting_since, seq)
    WHERE waiting_since IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX ix_tickets_assigned_agent_id_waiting_since_seq ON tickets (assigned_agent_id, waiting_since, seq)
    WHERE waiting_since IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX ix_tickets_team_waiting_since_seq ON tickets (team, waiting_since, seq)
    WHERE waiting_since IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX ix_tickets_priority_waiting_since_seq ON tickets (priority, waiting_since, seq)
    WHERE waiting_since IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX ix_tickets_sla_due_at_seq ON tickets (sla_due_at, seq) WHERE sla_due_at IS NOT NULL;
CREATE INDEX ix_tickets_status_sla_due_at_seq ON tickets (status, sla_due_at, seq) WHERE sla_due_at IS NOT NULL;
CREATE INDEX ix_tickets_assigned_agent_id_sla_due_at_seq ON tickets (assigned_agent_id, sla_due_at, seq)
    WHERE sla_due_at IS NOT NULL;
CREATE INDEX ix_tickets_team_sla_due_at_seq ON tickets (team, sla_due_at, seq) WHERE sla_due_at IS NOT NULL;
CREATE INDEX ix_tickets_priority_sla_due_at_seq ON tickets (priority, sla_due_at, seq) WHERE sla_due_at IS NOT NULL;
CREATE INDEX ix_tickets_without_agent ON tickets (seq) WHERE assigned_agent_id IS NULL;
CREATE INDEX ix_tickets_without_team ON tickets (seq) WHERE team IS NULL;
CREATE INDEX ix_tickets_without_wait ON tickets (status, seq)
    WHERE status IN ('open', 'pending') AND waiting_since IS NULL;
CREATE INDEX ix_tickets_without_due_time ON tickets (status, seq)
    WHERE status IN ('open', 'pending') AND sla_due_at IS NULL;
CREATE INDEX ix_tickets_created_at_seq ON tickets (created_at, seq);
CREATE INDEX ix_tickets_snoozed_until_seq ON tickets (snoozed_until, seq)
    WHERE snoozed_until IS NOT NULL AND status = 'pending';
CREATE INDEX ix_tickets_snoozed ON tickets (seq) WHERE snoozed_until IS NOT NULL AND status = 'pending';
CREATE INDEX ix_tickets_external_id ON tickets (external_id) WHERE external_id IS NOT NULL;

CREATE TABLE messages (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    ticket_id VARCHAR(36) NOT NULL,
    author_type VARCHAR(16) NOT NULL,
    message TEXT NOT NULL,
    attachment_uri TEXT,
    sentiment VARCHAR(32),
    metadata $json,
    created_at $time NOT NULL,
    visibility VARCHAR(16) DEFAULT 'public' NOT NULL,
    external_id VARCHAR(255),
    sent_at $time,
    has_document BOOLEAN DEFAULT $false NOT NULL,
    attachment_ids $json DEFAULT '[]' NOT NULL,
    version INTEGER,
    public_version INTEGER,
    author_id VARCHAR(128),
    CONSTRAINT pk_messages PRIMARY KEY (seq),
    CONSTRAINT uq_messages_id UNIQUE (id),
    CONSTRAINT fk_messages_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE
);
CREATE INDEX ix_messages_ticket_id_seq ON messages (ticket_id, seq);
CREATE UNIQUE INDEX ix_messages_ticket_id_external_id ON messages (ticket_id, external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX ix_messages_without_document ON messages (seq) WHERE NOT has_document;

CREATE TABLE ticket_references (
    ticket_id VARCHAR(36) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    value VARCHAR(200) NOT NULL,
    CONSTRAINT pk_ticket_references PRIMARY KEY (ticket_id, kind, value),
    CONSTRAINT fk_ticket_references_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE
)$without_rowid;
CREATE INDEX ix_ticket_references_kind_value ON ticket_references (kind, value);

CREATE TABLE attachments (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    ticket_id VARCHAR(36) NOT NULL,
    filename VARCHAR(255) NOT NULL,
    content_type VARCHAR(255) NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    storage VARCHAR(16) NOT NULL,
    storage_key VARCHAR(255)$bytewise NOT NULL,
    created_at $time NOT NULL,
    detected_type VARCHAR(255),
    mover VARCHAR(36),
    moving_until $time,
    visibility VARCHAR(16) DEFAULT 'public' NOT NULL,
    CONSTRAINT pk_attachments PRIMARY KEY (seq),
    CONSTRAINT uq_attachments_id UNIQUE (id),
    CONSTRAINT fk_attachments_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE
);
CREATE INDEX ix_attachments_ticket_id_seq ON attachments (ticket_id, seq);
CREATE UNIQUE INDEX ix_attachments_storage_storage_key ON attachments (storage, storage_key);
CREATE INDEX ix_attachments_storage_created_at ON attachments (storage, created_at);
CREATE INDEX ix_attachments_created_at ON attachments (created_at);

CREATE TABLE attachment_ledger (
    storage VARCHAR(16) NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    CONSTRAINT pk_attachment_ledger PRIMARY KEY (storage)
);

CREATE TABLE timeline_levers (
    name VARCHAR(16) NOT NULL,
    value $double,
    reason TEXT NOT NULL,
    until $time NOT NULL,
    set_at $time NOT NULL,
    CONSTRAINT pk_timeline_levers PRIMARY KEY (name)
);

CREATE TABLE attachment_leftovers (
    storage VARCHAR(16) NOT NULL,
    storage_key VARCHAR(255)$bytewise NOT NULL,
    size_bytes BIGINT NOT NULL,
    due_at $time NOT NULL,
    mover VARCHAR(36),
    removing BOOLEAN NOT NULL,
    CONSTRAINT pk_attachment_leftovers PRIMARY KEY (storage, storage_key)
);
CREATE INDEX ix_attachment_leftovers_due_at ON attachment_leftovers (due_at);

CREATE TABLE attachment_deletions (
    attachment_id VARCHAR(36) NOT NULL,
    ticket_id VARCHAR(36) NOT NULL,
    filename VARCHAR(255) NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    reason VARCHAR(16) NOT NULL,
    deleted_at $time NOT NULL,
    CONSTRAINT pk_attachment_deletions PRIMARY KEY (attachment_id)
);
CREATE INDEX ix_attachment_deletions_ticket_id ON attachment_deletions (ticket_id);

CREATE TABLE outbox (
    seq $autoincrement,
    type VARCHAR(64) NOT NULL,
    at VARCHAR(32) NOT NULL,
    event TEXT NOT NULL,
    fanned_out BOOLEAN DEFAULT $false NOT NULL,
    case_id VARCHAR(36)
);
CREATE INDEX ix_outbox_to_fan_out ON outbox (seq) WHERE NOT fanned_out;
CREATE INDEX ix_outbox_case_id ON outbox (case_id);

CREATE TABLE leases (
    name VARCHAR(32) NOT NULL,
    holder VARCHAR(36) NOT NULL,
    fence BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT pk_leases PRIMARY KEY (name)
);

CREATE TABLE inbound_events (
    source VARCHAR(255) NOT NULL,
    id VARCHAR(255) NOT NULL,
    at $time NOT NULL,
    reached BIGINT NOT NULL,
    done BOOLEAN NOT NULL,
    CONSTRAINT pk_inbound_events PRIMARY KEY (source, id)
);
CREATE INDEX ix_inbound_events_at ON inbound_events (at);

CREATE TABLE webhook_deliveries (
    seq $sequence NOT NULL,
    endpoint VARCHAR(64) NOT NULL,
    type VARCHAR(64) NOT NULL,
    event TEXT NOT NULL,
    state VARCHAR(16) NOT NULL,
    tries INTEGER NOT NULL,
    since $time NOT NULL,
    due $time NOT NULL,
    reason VARCHAR(255),
    case_id VARCHAR(36),
    CONSTRAINT pk_webhook_deliveries PRIMARY KEY (seq)
);
CREATE INDEX ix_webhook_deliveries_state_due ON webhook_deliveries (state, due);
CREATE INDEX ix_webhook_deliveries_endpoint_state_due ON webhook_deliveries (endpoint, state, due);
CREATE INDEX ix_webhook_deliveries_case_id ON webhook_deliveries (case_id);

CREATE TABLE audit_log (
    seq $sequence NOT NULL,
    at $time NOT NULL,
    actor VARCHAR(255) NOT NULL,
    role VARCHAR(16) NOT NULL,
    action VARCHAR(32) NOT NULL,
    case_id VARCHAR(36),
    request_id VARCHAR(64),
    changes TEXT,
    position BIGINT,
    salt $bytes,
    digest $bytes,
    hash $bytes,
    CONSTRAINT pk_audit_log PRIMARY KEY (seq)
);
CREATE INDEX ix_audit_log_case_id_seq ON audit_log (case_id, seq);
CREATE UNIQUE INDEX ix_audit_log_position ON audit_log (position);
CREATE INDEX ix_audit_log_unsealed ON audit_log (seq) WHERE position IS NULL;
CREATE INDEX ix_audit_log_at_seq ON audit_log (at, seq);
CREATE INDEX ix_audit_log_actor_at_seq ON audit_log (actor, at, seq);
CREATE INDEX ix_audit_log_action_at_seq ON audit_log (action, at, seq);

CREATE TABLE audit_head (
    id INTEGER NOT NULL,
    position BIGINT NOT NULL,
    hash $bytes NOT NULL,
    detached_position BIGINT,
    detached_hash $bytes,
    verified_position BIGINT,
    CONSTRAINT pk_audit_head PRIMARY KEY (id)
);

CREATE TABLE idempotency_keys (
    id VARCHAR(64) NOT NULL,
    request VARCHAR(64) NOT NULL,
    owner VARCHAR(36) NOT NULL,
    until $time NOT NULL,
    state VARCHAR(8) NOT NULL,
    created_at $time NOT NULL,
    status INTEGER,
    headers $json,
    body $bytes,
    case_id VARCHAR(36),
    large_response_of VARCHAR(64),
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (id)
);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
CREATE INDEX ix_idempotency_keys_case_id ON idempotency_keys (case_id);
CREATE INDEX ix_idempotency_keys_large_response_of ON idempotency_keys (large_response_of);

CREATE TABLE views (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    owner VARCHAR(128),
    team VARCHAR(36),
    name VARCHAR(255) NOT NULL,
    query $json NOT NULL,
    version INTEGER DEFAULT '1' NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    CONSTRAINT pk_views PRIMARY KEY (seq),
    CONSTRAINT uq_views_id UNIQUE (id),
    CONSTRAINT uq_views_owner UNIQUE (owner, name),
    CONSTRAINT uq_views_team UNIQUE (team, name)
);

CREATE TABLE macros (
    seq $sequence NOT NULL,
    name VARCHAR(64) NOT NULL,
    text TEXT NOT NULL,
    status VARCHAR(16),
    tags $json NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_macros PRIMARY KEY (seq),
    CONSTRAINT uq_macros_name UNIQUE (name)
);

CREATE TABLE sla_policies (
    seq $sequence NOT NULL,
    name VARCHAR(64) NOT NULL,
    content $json NOT NULL,
    is_current BOOLEAN NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_sla_policies PRIMARY KEY (seq)
);
CREATE UNIQUE INDEX ix_sla_policies_name ON sla_policies (name) WHERE is_current;

CREATE TABLE case_links (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    case_id VARCHAR(36) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    other_case_id VARCHAR(36) NOT NULL,
    previous_status VARCHAR(16),
    created_at $time NOT NULL,
    previous_snoozed_until $time,
    CONSTRAINT pk_case_links PRIMARY KEY (seq),
    CONSTRAINT fk_case_links_case_id FOREIGN KEY (case_id) REFERENCES tickets (id) ON DELETE CASCADE,
    CONSTRAINT fk_case_links_other_case_id FOREIGN KEY (other_case_id) REFERENCES tickets (id) ON DELETE CASCADE,
    CONSTRAINT uq_case_links_id UNIQUE (id)
);
CREATE UNIQUE INDEX ix_case_links_case_id_kind_other_case_id ON case_links (case_id, kind, other_case_id);
CREATE INDEX ix_case_links_other_case_id_kind ON case_links (other_case_id, kind);

CREATE TABLE staged_attachments (
    id VARCHAR(36) NOT NULL,
    ticket_id VARCHAR(36) NOT NULL,
    filename VARCHAR(255) NOT NULL,
    content_type VARCHAR(255) NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    storage VARCHAR(16) NOT NULL,
    storage_key VARCHAR(255)$bytewise NOT NULL,
    created_at $time NOT NULL,
    detected_type VARCHAR(255),
    staged_by VARCHAR(255) NOT NULL,
    staged_until $time NOT NULL,
    CONSTRAINT pk_staged_attachments PRIMARY KEY (id),
    CONSTRAINT fk_staged_attachments_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE
);
CREATE INDEX ix_staged_attachments_ticket_id ON staged_attachments (ticket_id);
CREATE INDEX ix_staged_attachments_staged_by ON staged_attachments (staged_by);
CREATE INDEX ix_staged_attachments_staged_until ON staged_attachments (staged_until);

CREATE TABLE case_clocks (
    case_id VARCHAR(36) NOT NULL,
    target VARCHAR(16) NOT NULL,
    policy BIGINT NOT NULL,
    public BOOLEAN NOT NULL,
    state VARCHAR(16) NOT NULL,
    allowance BIGINT NOT NULL,
    used BIGINT NOT NULL,
    running_since $time,
    due_at $time,
    ended_at $time,
    CONSTRAINT pk_case_clocks PRIMARY KEY (case_id, target),
    CONSTRAINT fk_case_clocks_case_id FOREIGN KEY (case_id) REFERENCES tickets (id) ON DELETE CASCADE
);
CREATE INDEX ix_case_clocks_running ON case_clocks (due_at) WHERE state = 'running';
CREATE INDEX ix_case_clocks_overdue ON case_clocks (target, due_at)
    WHERE state = 'breached' AND running_since IS NOT NULL;

CREATE TABLE console_sessions (
    id VARCHAR(64) NOT NULL,
    token_hash VARCHAR(64) NOT NULL,
    sealed_token TEXT NOT NULL,
    created_at $time NOT NULL,
    expires_at $time NOT NULL,
    refresh_at $time,
    refreshing_until $time,
    CONSTRAINT pk_console_sessions PRIMARY KEY (id)
);
CREATE INDEX ix_console_sessions_token_hash_created_at ON console_sessions (token_hash, created_at);
CREATE INDEX ix_console_sessions_expires_at ON console_sessions (expires_at);

CREATE TABLE secrets (
    name VARCHAR(32) NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_secrets PRIMARY KEY (name)
);

CREATE TABLE ticket_tags (
    tag TEXT NOT NULL,
    seq $bigint NOT NULL,
    CONSTRAINT pk_ticket_tags PRIMARY KEY (tag, seq)
)$without_rowid;

CREATE TABLE search_documents (
    id $bigint NOT NULL,
    internal BOOLEAN NOT NULL,
    words $words NOT NULL,
    CONSTRAINT pk_search_documents PRIMARY KEY (id)
);

CREATE TABLE attachment_ledger_changes (
    storage VARCHAR(16) NOT NULL,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);

CREATE TABLE console_sign_ins (
    id VARCHAR(64) NOT NULL,
    sealed TEXT NOT NULL,
    expires_at $time NOT NULL,
    CONSTRAINT pk_console_sign_ins PRIMARY KEY (id)
);
CREATE INDEX ix_console_sign_ins_expires_at ON console_sign_ins (expires_at);

CREATE TABLE published_events (
    seq BIGINT NOT NULL,
    publication BIGINT NOT NULL,
    published_at $time NOT NULL,
    type VARCHAR(64) NOT NULL,
    event TEXT NOT NULL,
    case_id VARCHAR(36),
    CONSTRAINT pk_published_events PRIMARY KEY (seq)
);
CREATE INDEX ix_published_events_publication_seq ON published_events (publication, seq);
CREATE INDEX ix_published_events_case_id ON published_events (case_id);

CREATE TABLE database_restores (
    version_base BIGINT NOT NULL,
    undone_after $time,
    CONSTRAINT pk_database_restores PRIMARY KEY (version_base)
);

CREATE TABLE agents (
    seq $sequence NOT NULL,
    id VARCHAR(128) NOT NULL,
    display_name VARCHAR(128),
    teams $json NOT NULL,
    role VARCHAR(16),
    away BOOLEAN NOT NULL,
    name_from_claims BOOLEAN NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_agents PRIMARY KEY (seq),
    CONSTRAINT uq_agents_id UNIQUE (id)
);

CREATE TABLE report_changes (
    seq $sequence NOT NULL,
    measure VARCHAR(16) NOT NULL,
    case_id VARCHAR(36) NOT NULL,
    at $time NOT NULL,
    since $time NOT NULL,
    team VARCHAR(36),
    agent VARCHAR(36),
    channel VARCHAR(32) NOT NULL,
    CONSTRAINT pk_report_changes PRIMARY KEY (seq)
);

CREATE TABLE report_counts (
    grain VARCHAR(24) NOT NULL,
    span INTEGER NOT NULL,
    day INTEGER NOT NULL,
    team VARCHAR(36) NOT NULL,
    agent VARCHAR(36) NOT NULL,
    channel VARCHAR(32) NOT NULL,
    counts TEXT NOT NULL,
    CONSTRAINT pk_report_counts PRIMARY KEY (grain, span, day, team, agent, channel)
)$without_rowid;

CREATE TABLE case_results (
    case_id VARCHAR(36) NOT NULL,
    solved_at $time,
    reopened INTEGER NOT NULL,
    breaches INTEGER NOT NULL,
    CONSTRAINT pk_case_results PRIMARY KEY (case_id),
    CONSTRAINT fk_case_results_case_id FOREIGN KEY (case_id) REFERENCES tickets (id) ON DELETE CASCADE
);

CREATE TABLE report_state (
    id INTEGER NOT NULL,
    since $time,
    last_case BIGINT NOT NULL,
    last_entry BIGINT NOT NULL,
    rebuilt_from $time,
    rebuilding_from $time,
    position BIGINT NOT NULL,
    CONSTRAINT pk_report_state PRIMARY KEY (id)
);

CREATE TABLE bulk_changes (
    id VARCHAR(36) NOT NULL,
    idempotency_key VARCHAR(64),
    undoes VARCHAR(36),
    owner VARCHAR(128) NOT NULL,
    request VARCHAR(64) NOT NULL,
    case_ids $json NOT NULL,
    created_at $time NOT NULL,
    finished_at $time,
    expires_at $time NOT NULL,
    CONSTRAINT pk_bulk_changes PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_bulk_changes_idempotency_key ON bulk_changes (idempotency_key);
CREATE UNIQUE INDEX ix_bulk_changes_undoes ON bulk_changes (undoes);
CREATE INDEX ix_bulk_changes_expires_at ON bulk_changes (expires_at);

CREATE TABLE bulk_items (
    bulk_id VARCHAR(36) NOT NULL,
    case_id VARCHAR(36) NOT NULL,
    outcome VARCHAR(16) NOT NULL,
    code VARCHAR(64),
    former $json,
    version INTEGER,
    CONSTRAINT pk_bulk_items PRIMARY KEY (bulk_id, case_id),
    CONSTRAINT fk_bulk_items_bulk_id FOREIGN KEY (bulk_id) REFERENCES bulk_changes (id) ON DELETE CASCADE
);
CREATE INDEX ix_bulk_items_case_id ON bulk_items (case_id);

CREATE TABLE notifications (
    seq $sequence NOT NULL,
    id VARCHAR(36) NOT NULL,
    recipient VARCHAR(128) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    case_id VARCHAR(36) NOT NULL,
    message_id VARCHAR(36),
    actor VARCHAR(128) NOT NULL,
    at $time NOT NULL,
    read_at $time,
    CONSTRAINT pk_notifications PRIMARY KEY (seq),
    CONSTRAINT uq_notifications_id UNIQUE (id),
    CONSTRAINT fk_notifications_case_id FOREIGN KEY (case_id) REFERENCES tickets (id) ON DELETE CASCADE
);
CREATE INDEX ix_notifications_recipient_seq ON notifications (recipient, seq);
CREATE INDEX ix_notifications_unread ON notifications (recipient, seq) WHERE read_at IS NULL;
CREATE INDEX ix_notifications_case_id ON notifications (case_id);

CREATE TABLE customers (
    id VARCHAR(36) NOT NULL,
    name VARCHAR(128),
    contacts $json NOT NULL,
    notes TEXT,
    merged_into VARCHAR(36),
    person VARCHAR(36),
    person_name VARCHAR(128),
    audit_id VARCHAR(36) NOT NULL,
    created_at $time NOT NULL,
    updated_at $time NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT pk_customers PRIMARY KEY (id)
);
CREATE INDEX ix_customers_person ON customers (person) WHERE person IS NOT NULL;

CREATE TABLE customer_terms (
    customer_id VARCHAR(36) NOT NULL,
    term TEXT$bytewise NOT NULL,
    CONSTRAINT pk_customer_terms PRIMARY KEY (customer_id, term),
    CONSTRAINT fk_customer_terms_customer_id FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE
)$without_rowid;
CREATE INDEX ix_customer_terms_term_customer_id ON customer_terms (term, customer_id);

-- The rows that a database begins with.

INSERT INTO attachment_ledger (storage, files, bytes) VALUES ('local', 0, 0), ('s3', 0, 0);
INSERT INTO leases (name, holder, fence, expires_at) VALUES
    ('relay', '', 0, 0), ('sla', '', 0, 0), ('snoozes', '', 0, 0);
INSERT INTO report_state (id, last_case, last_entry, position) VALUES (1, 0, 0, 0);
