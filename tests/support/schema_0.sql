CREATE TABLE registry_state (
  "key" VARCHAR(64) NOT NULL,
  value VARCHAR(255) NOT NULL,
  PRIMARY KEY ("key")
);
CREATE TABLE occupations (
  id VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  prevalence FLOAT NOT NULL,
  method VARCHAR(16) NOT NULL,
  origin VARCHAR(16) NOT NULL,
  source_digest VARCHAR(64),
  created_at VARCHAR(32) NOT NULL,
  updated_at VARCHAR(32) NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE version_numbers (
  occupation VARCHAR(64) NOT NULL,
  last INTEGER NOT NULL,
  PRIMARY KEY (occupation)
);
CREATE TABLE registrations (
  id VARCHAR(64) NOT NULL,
  occupation VARCHAR(64) NOT NULL,
  method VARCHAR(16) NOT NULL,
  state VARCHAR(16) NOT NULL,
  stage VARCHAR(16),
  progress FLOAT NOT NULL,
  error JSON,
  created_at VARCHAR(32) NOT NULL,
  updated_at VARCHAR(32) NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX registrations_by_state ON registrations (state, id);
CREATE INDEX registrations_by_occupation ON registrations (occupation);
CREATE TABLE idempotency_keys (
  "key" VARCHAR(255) NOT NULL,
  route VARCHAR(128) NOT NULL,
  body_digest VARCHAR(64) NOT NULL,
  registration VARCHAR(64) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  PRIMARY KEY ("key", route)
);
CREATE TABLE encoders (
  fingerprint VARCHAR(64) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  background_digest VARCHAR(64) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  PRIMARY KEY (fingerprint)
);
CREATE TABLE keys (
  id VARCHAR(8) NOT NULL,
  name VARCHAR(64) NOT NULL,
  scopes VARCHAR(64) NOT NULL,
  secret_digest VARCHAR(64) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  expires_at VARCHAR(32),
  revoked_at VARCHAR(32),
  requests_per_minute INTEGER,
  PRIMARY KEY (id),
  UNIQUE (name)
);
CREATE TABLE examples (
  id INTEGER NOT NULL,
  occupation VARCHAR(64) NOT NULL,
  digest VARCHAR(64) NOT NULL,
  title TEXT,
  company TEXT,
  description TEXT,
  text TEXT,
  label VARCHAR(8) NOT NULL,
  origin VARCHAR(16) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  updated_at VARCHAR(32) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE (occupation, digest),
  CHECK (label IN ('in', 'out')),
  FOREIGN KEY(occupation) REFERENCES occupations (id) ON DELETE CASCADE
);
CREATE TABLE versions (
  occupation VARCHAR(64) NOT NULL,
  number INTEGER NOT NULL,
  method VARCHAR(16) NOT NULL,
  encoder_digest VARCHAR(64) NOT NULL,
  trunk_digest VARCHAR(64),
  artifact_digest VARCHAR(64) NOT NULL,
  manifest JSON NOT NULL,
  registration VARCHAR(64) NOT NULL,
  created_at VARCHAR(32) NOT NULL,
  PRIMARY KEY (occupation, number),
  UNIQUE (registration, method),
  FOREIGN KEY(occupation) REFERENCES occupations (id) ON DELETE CASCADE
);
CREATE TABLE aliases (
  occupation VARCHAR(64) NOT NULL,
  alias VARCHAR(16) NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (occupation, alias),
  FOREIGN KEY(occupation) REFERENCES occupations (id) ON DELETE CASCADE
);
