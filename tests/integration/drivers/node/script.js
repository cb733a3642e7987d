// node-postgres: prints what it sees, one line per thing. Connects as the PG* environment says, over TLS with PGSSLROOTCERT.
'use strict'

const fs = require('node:fs')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from, to } = require('pg-copy-streams')

const config = {
  host: process.env.PGHOST,
  ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT), checkServerIdentity: () => undefined },
  connectionTimeoutMillis: 20000,
}
const say = (...words) => console.log(words.map((w) => (typeof w === 'string' ? w : JSON.stringify(w))).join(' '))
const fields = (e) => [e.code, e.severity, e.message, e.detail, e.hint, e.position, e.table, e.constraint]

async function attempt(client, ...query) {
  try {
    const result = await client.query(...query)
    for (const each of [result].flat()) say(each.command, each.rowCount, each.rows, each.fields.map((f) => [f.name, f.dataTypeID]))
  } catch (e) {
    say('error', fields(e))
  }
}

async function connected(work) {
  const client = new Client(config)
  const notices = []
  client.on('notice', (n) => notices.push([n.severity, n.message]))
  await client.connect()
  await work(client, notices)
  await client.end()
}

async function queries(client, notices) {
  await attempt(client, 'create table t (id serial primary key, v text unique, j jsonb, a int[], d timestamptz)')
  const date = new Date(Date.UTC(2026, 10, 22))
  for (let n = 0; n < 30; n++) {
    await attempt(client, 'insert into t (v, j, a, d) values ($1, $2, $3, $4) returning id', [`v${n}ü`, { n }, [n, null], date])
  }
  await attempt(client, 'select * from t where id <= $1 order by id', [3])
  for (let n = 0; n < 5; n++) await attempt(client, { name: 'named', text: 'select $1::int + 1 as n', values: [n] })
  await attempt(client, { text: 'select 1 as a, 2 as a', rowMode: 'array' })
  await attempt(client, { text: 'select $1::bytea as b', values: [Buffer.from([0, 255])], binary: true })
  await attempt(client, 'select 1 as one; select 2 as two; do $$ begin raise notice \'n\'; end $$')
  for (const text of ['selec', 'select 1/0', 'select * from missing', "insert into t (v) values ('v1ü')", '']) await attempt(client, text)
  await attempt(client, 'select $1::int', ['x'])
  await attempt(client, { name: 'broken', text: 'select * from missing where id = $1', values: [1] })
  await attempt(client, { name: 'broken', text: 'select * from missing where id = $1', values: [1] })
  await attempt(client, 'begin')
  await attempt(client, 'select 1/0')
  await attempt(client, 'select 1')
  await attempt(client, 'rollback')
  // queued without waiting: node-postgres sends the next as soon as the last is answered
  const many = Array.from({ length: 200 }, (_, n) => client.query('select $1::int as n, repeat($2, 100) as r', [n, 'x']))
  say((await Promise.all(many)).map((r) => r.rows[0].n).join())
  say(notices)
}

async function streams(client) {
  await client.query('create table c (n int, t text)')
  const rows = Array.from({ length: 5000 }, (_, n) => `${n}\trow ${n}\n`)
  await pipeline(Readable.from(rows), client.query(from('copy c from stdin')))
  let bytes = 0
  for await (const chunk of client.query(to('copy c to stdout'))) bytes += chunk.length
  say(bytes)
  try {
    await pipeline(Readable.from(['1\t2\t3\n']), client.query(from('copy c from stdin')))
  } catch (e) {
    say('error', fields(e))
  }
  const cursor = client.query(new Cursor('select g from generate_series(1, 20) g where g > $1', [5]))
  say(await cursor.read(4))
  say(await cursor.read(4))
  await cursor.close()
  let sum = 0
  for await (const row of client.query(new QueryStream('select g from generate_series(1, 3000) g', [], { batchSize: 40 }))) sum += row.g
  say(sum)
  await attempt(client, 'select count(*) from c')
}

async function listening(client) {
  const heard = []
  const all = new Promise((resolve) => client.on('notification', (n) => {
    heard.push([n.channel, n.payload, n.processId === client.processID])
    if (heard.length === 2) resolve()
  }))
  await client.query('listen ch')
  await client.query("notify ch, 'mine'")
  await connected((other) => other.query("select pg_notify('ch', 'theirs')"))
  await all
  say(heard)
  await client.query('unlisten ch')
}

async function pooled() {
  const pool = new Pool({ ...config, max: 2 })
  const found = await Promise.all(Array.from({ length: 50 }, (_, n) => pool.query('select $1::int as n', [n])))
  say(found.map((r) => r.rows[0].n).join())
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query('create table p (n int)')
    await client.query('commit')
  } finally {
    client.release()
  }
  await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query('insert into p values ($1)', [n])))
  say((await pool.query('select sum(n) from p')).rows)
  await pool.end()
}

async function ended() {
  const client = new Client(config)
  let gone
  client.on('error', (e) => { gone = e })
  await client.connect()
  await attempt(client, 'select pg_terminate_backend(pg_backend_pid())')
  try {
    await client.query('select 1')
  } catch (e) {
    say(e.message)
  }
  await client.end().catch(() => undefined)
  for (const wrong of [{ database: 'missing' }, { options: '-c nonsense=1' }, { password: 'wrong' }]) {
    const refused = new Client({ ...config, ...wrong })
    try {
      await refused.connect()
    } catch (e) {
      say(wrong.password ? e.code : fields(e))  // the words about a password are RDS Proxy's
    }
    await refused.end().catch(() => undefined)
  }
}

const scripts = {
  queries: () => connected(queries),
  streams: () => connected(streams),
  listening: () => connected(listening),
  pooled,
  ended,
}
scripts[process.argv[2]]().catch((e) => {
  console.error(e)
  process.exitCode = 1
})
