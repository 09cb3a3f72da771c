-- A store of schema 0001 as `segue run` left it when it was killed before its second batch was answered.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('0001');
CREATE TABLE baseline (
	destination TEXT NOT NULL, 
	contact_key BIGINT NOT NULL, 
	row_hash BLOB NOT NULL, 
	CONSTRAINT pk_baseline PRIMARY KEY (destination, contact_key)
)
 WITHOUT ROWID

;
INSERT INTO baseline VALUES('newsletter',4455787924623626858,X'0b1ee6cc19d7fa5e2b44f765c9d76f4f');
INSERT INTO baseline VALUES('newsletter',5674945723402471357,X'f45cc5753f8a5784add929d3546b970a');
CREATE TABLE baseline_payload (
	destination TEXT NOT NULL, 
	contact_key BIGINT NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_baseline_payload PRIMARY KEY (destination, contact_key)
);
INSERT INTO baseline_payload VALUES('newsletter',4455787924623626858,X'7801ab564a4c49294a2d2e56b2524acccb73c8ad2ccec82fd04bad48cc2dc84955d2514acb4ccd4901ca562b05bbc73b7b864402153aa516e564e629d5ea289524a603e5a2958a53d34b53ad1492c012a945c54ab1b5007f681ecf');
INSERT INTO baseline_payload VALUES('newsletter',5674945723402471357,X'7801ab564a4c49294a2d2e56b2524aca4f72c8ad2ccec82fd04bad48cc2dc84955d2514acb4ccd4901ca562b05bbc73b7b864402153aa516e564e629d5ea289524a603e5a2958a53d34b53ad1492c012a945c54ab1b5007c731ec5');
CREATE TABLE consent_entry (
	id INTEGER NOT NULL, 
	entry_hash BLOB NOT NULL, 
	subject_key BIGINT NOT NULL, 
	subject_kind TEXT NOT NULL, 
	channel TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	act TEXT NOT NULL, 
	occurred_at BIGINT NOT NULL, 
	source TEXT NOT NULL, 
	evidence TEXT NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	run_id TEXT, 
	CONSTRAINT pk_consent_entry PRIMARY KEY (id), 
	CONSTRAINT uq_consent_entry_entry_hash UNIQUE (entry_hash)
);
INSERT INTO consent_entry VALUES(1,X'a50ed83ccfba89fa20b2fc6508ed41ad',4455787924623626858,'contact','email','marketing','grant',1736499600000000,'shop','{"form":"a"}',1795345038166193,'20261122T105717-c15342');
INSERT INTO consent_entry VALUES(2,X'7124683a7a8e32801ea03d7371c5fe9c',5674945723402471357,'contact','email','marketing','grant',1736499600000000,'shop','{"form":"a"}',1795345038166193,'20261122T105717-c15342');
INSERT INTO consent_entry VALUES(3,X'bcbfbe88d25a0b5ae28c2d712125c186',3440762507806048260,'contact','email','marketing','grant',1736499600000000,'shop','{"form":"a"}',1795345055471750,'20261122T105729-0e6982');
CREATE TABLE consent_record (
	channel TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	subject_key BIGINT NOT NULL, 
	granted_at BIGINT, 
	requested_at BIGINT, 
	withdrawn_at BIGINT, 
	suppressed_at BIGINT, 
	released_at BIGINT, 
	grant_entry BLOB, 
	CONSTRAINT pk_consent_record PRIMARY KEY (channel, purpose, subject_key)
)
 WITHOUT ROWID

;
INSERT INTO consent_record VALUES('email','marketing',3440762507806048260,1736499600000000,NULL,NULL,NULL,NULL,X'bcbfbe88d25a0b5ae28c2d712125c186');
INSERT INTO consent_record VALUES('email','marketing',4455787924623626858,1736499600000000,NULL,NULL,NULL,NULL,X'a50ed83ccfba89fa20b2fc6508ed41ad');
INSERT INTO consent_record VALUES('email','marketing',5674945723402471357,1736499600000000,NULL,NULL,NULL,NULL,X'7124683a7a8e32801ea03d7371c5fe9c');
CREATE TABLE cursor (
	destination TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_cursor PRIMARY KEY (destination, name)
)
 WITHOUT ROWID

;
INSERT INTO cursor VALUES('','consents_of','5771280699108413525 17437825041664486366');
INSERT INTO cursor VALUES('newsletter','audience','b1234567ab');
INSERT INTO cursor VALUES('newsletter','pulled_until','2026-11-22T10:57:18+00:00');
CREATE TABLE fact (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_fact PRIMARY KEY (name)
)
 WITHOUT ROWID

;
INSERT INTO fact VALUES('contact_key_fingerprint','7ffa0981e958ed2edfcc493e76bea448');
CREATE TABLE lease (
	destination TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	heartbeat BIGINT NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (destination)
)
 WITHOUT ROWID

;
INSERT INTO lease VALUES('newsletter','another-machine process 1',2,1795345649020616,1795345049020616);
CREATE TABLE outbox (
	id INTEGER NOT NULL, 
	plan_id TEXT NOT NULL, 
	destination TEXT NOT NULL, 
	contact_key BIGINT NOT NULL, 
	operation TEXT NOT NULL, 
	step SMALLINT NOT NULL, 
	group_key TEXT NOT NULL, 
	rank INTEGER NOT NULL, 
	address TEXT, 
	address_key BIGINT NOT NULL, 
	payload TEXT, 
	before_hash BLOB, 
	desired_hash BLOB, 
	status TEXT NOT NULL, 
	claim_token BIGINT, 
	attempts INTEGER NOT NULL, 
	not_before BIGINT, 
	created_at BIGINT NOT NULL, 
	outcome TEXT, 
	code TEXT, 
	CONSTRAINT pk_outbox PRIMARY KEY (id), 
	CONSTRAINT uq_outbox_item UNIQUE (plan_id, contact_key, operation, group_key)
);
INSERT INTO outbox VALUES(1,'20261122T105738-3ab90f08','newsletter',3440762507806048260,'create',1,'',2,'eve@myshop.example',7820833593999887192,'{"fields": {"SG_CITY": "Berlin"}, "tags": ["segue: berliners"], "whole": true, "heir_of": []}',NULL,X'c8c5e84d6f4bfa04464efebcfe4a69cc','claimed',2,0,NULL,1795345058846096,NULL,NULL);
INSERT INTO outbox VALUES(2,'20261122T105738-3ab90f08','newsletter',4455787924623626858,'update',2,'',4,'ann@myshop.example',4833726960429093637,'{"fields": {"SG_CITY": "Hamburg"}, "tags": [], "whole": false, "heir_of": []}',X'0b1ee6cc19d7fa5e2b44f765c9d76f4f',X'04220be5898763f433e407044be6fa3d','pending',NULL,0,NULL,1795345058846096,NULL,NULL);
INSERT INTO outbox VALUES(3,'20261122T105738-3ab90f08','newsletter',5674945723402471357,'update',2,'',4,'bob@myshop.example',765098673776348942,'{"fields": {"SG_CITY": "Hamburg"}, "tags": [], "whole": false, "heir_of": []}',X'f45cc5753f8a5784add929d3546b970a',X'60af0244b7266303034f2341ddd50b5a','pending',NULL,0,NULL,1795345058846096,NULL,NULL);
INSERT INTO outbox VALUES(4,'20261122T105738-3ab90f08','newsletter',4455787924623626858,'untag',4,'segue: berliners',5,'ann@myshop.example',4833726960429093637,'{"tags": ["segue: berliners"]}',X'0b1ee6cc19d7fa5e2b44f765c9d76f4f',X'04220be5898763f433e407044be6fa3d','pending',NULL,0,NULL,1795345058846096,NULL,NULL);
INSERT INTO outbox VALUES(5,'20261122T105738-3ab90f08','newsletter',5674945723402471357,'untag',4,'segue: berliners',5,'bob@myshop.example',765098673776348942,'{"tags": ["segue: berliners"]}',X'f45cc5753f8a5784add929d3546b970a',X'60af0244b7266303034f2341ddd50b5a','pending',NULL,0,NULL,1795345058846096,NULL,NULL);
CREATE TABLE owned (
	destination TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	remote_id TEXT, 
	made_at BIGINT NOT NULL, 
	CONSTRAINT pk_owned PRIMARY KEY (destination, kind, name)
)
 WITHOUT ROWID

;
INSERT INTO owned VALUES('newsletter','field','SG_CITY',NULL,1795345038637548);
INSERT INTO owned VALUES('newsletter','tag','segue: berliners',NULL,1795345038644499);
CREATE TABLE IF NOT EXISTS "plan" (
	plan_id TEXT NOT NULL, 
	destination TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	snapshot_id TEXT NOT NULL, 
	manifest TEXT NOT NULL, 
	CONSTRAINT pk_plan PRIMARY KEY (plan_id)
);
INSERT INTO "plan" VALUES('20261122T105718-c54213e6','newsletter',1795345038397199,'applied','20261122T105713Z-174de8b5a074','{"created_at": "2026-11-22T10:57:18.397199+00:00", "destination": "newsletter", "double_opt_in": false, "fields_changed": {}, "guardrails": [], "may_trigger": ["segue: berliners"], "new_contacts": 2, "operations": {"create": 2}, "plan_id": "20261122T105718-c54213e6", "requests": {"create": 1, "schema": 1}, "schema": {"fields": [{"claim": false, "default": "", "label": "City", "purpose": "test", "tag": "SG_CITY", "type": "text"}], "tags": ["segue: berliners"]}, "seconds": 2.0, "snapshot_id": "20261122T105713Z-174de8b5a074", "steps": "/tmp/b/old/.segue/plans/newsletter/steps-fb1ff4d21d88de02b12b2022b337fa66.parquet", "tags_added": {"segue: berliners": 2}, "tags_removed": {}, "unchanged": 0, "withheld": {}, "withheld_contacts": "/tmp/b/old/.segue/plans/newsletter/withheld-acbd1bea99057d4374f40b90b9a36ff6.parquet"}');
INSERT INTO "plan" VALUES('20261122T105738-3ab90f08','newsletter',1795345058698038,'applying','20261122T105721Z-aa8ec4b585b0','{"created_at": "2026-11-22T10:57:38.698038+00:00", "destination": "newsletter", "double_opt_in": false, "fields_changed": {"SG_CITY": 2}, "guardrails": [], "may_trigger": ["segue: berliners"], "new_contacts": 1, "operations": {"create": 1, "untag": 2, "update": 2}, "plan_id": "20261122T105738-3ab90f08", "requests": {"create": 1, "untag": 1, "update": 1}, "schema": {"fields": [], "tags": []}, "seconds": 3.0, "snapshot_id": "20261122T105721Z-aa8ec4b585b0", "steps": "/tmp/b/old/.segue/plans/newsletter/steps-d07d10702d85a49c1c547b99df696b7d.parquet", "tags_added": {"segue: berliners": 1}, "tags_removed": {"segue: berliners": 2}, "unchanged": 0, "withheld": {}, "withheld_contacts": "/tmp/b/old/.segue/plans/newsletter/withheld-acbd1bea99057d4374f40b90b9a36ff6.parquet"}');
CREATE TABLE rejection (
	destination TEXT NOT NULL, 
	contact_key BIGINT NOT NULL, 
	operation TEXT NOT NULL, 
	payload_hash BLOB, 
	code TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	first_at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	CONSTRAINT pk_rejection PRIMARY KEY (destination, contact_key, operation)
);
CREATE TABLE remote (
	destination TEXT NOT NULL, 
	address_key BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	seen_at BIGINT NOT NULL, 
	CONSTRAINT pk_remote PRIMARY KEY (destination, address_key)
)
 WITHOUT ROWID

;
INSERT INTO remote VALUES('newsletter',765098673776348942,'subscribed',1795345057058333);
INSERT INTO remote VALUES('newsletter',4833726960429093637,'subscribed',1795345057058333);
CREATE TABLE run (
	run_id TEXT NOT NULL, 
	destination TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	finished_at BIGINT, 
	status TEXT NOT NULL, 
	exit_code INTEGER, 
	report TEXT NOT NULL, 
	CONSTRAINT pk_run PRIMARY KEY (run_id)
);
INSERT INTO run VALUES('20261122T105717-c15342','newsletter','run',1795345037972258,1795345038740603,'finished',0,'{"destination": "newsletter", "error": null, "exit_code": 0, "left": 0, "outcomes": {"create": {"applied": 2}}, "plan_id": "20261122T105718-c54213e6", "planned": {"create": 2}, "pulled": 0, "reasons": [], "requests": {"read": 8, "write": 2}, "run_id": "20261122T105717-c15342", "seconds": 0.77, "stale": 0, "unchanged": 0, "waiting": 0, "withheld": {}}');
INSERT INTO run VALUES('20261122T105729-0e6982','newsletter','run',1795345049025508,NULL,'running',NULL,'{}');
CREATE INDEX ix_consent_entry_subject_key ON consent_entry (subject_key);
CREATE INDEX ix_outbox_claimed ON outbox (destination) WHERE status = 'claimed';
CREATE INDEX ix_outbox_ready ON outbox (destination, rank, step, group_key, id) WHERE status = 'pending' AND not_before IS NULL;
CREATE INDEX ix_outbox_waiting ON outbox (destination, not_before) WHERE status = 'pending' AND not_before IS NOT NULL;
CREATE INDEX ix_plan_latest ON "plan" (destination, created_at);
CREATE INDEX ix_run_latest ON run (destination, started_at);
CREATE TRIGGER consent_entry_stays_update before update on consent_entry
        begin select raise(abort, 'the consent ledger only grows'); end;
CREATE TRIGGER consent_entry_stays_delete before delete on consent_entry
        begin select raise(abort, 'the consent ledger only grows'); end;
COMMIT;

