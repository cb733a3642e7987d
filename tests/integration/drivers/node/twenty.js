// Many node-postgres clients at once, alone or from a pool. Arguments: the persons as JSON, the rounds, "alone" or "pool",
// and the query that looks at the session. Prints a JSON array: for each client, the lines it would print.
'use strict'

const { Client, Pool } = require('pg')

const [persons, rounds, kind, look] = [JSON.parse(process.argv[2]), Number(process.argv[3]), process.argv[4], process.argv[5]]
const config = { ssl: false, connectionTimeoutMillis: 20000 }

async function visit(say, client, who, n, k) {
  const ask = async (...query) => {
    try {
      const results = [await client.query(...query)].flat()
      for (const r of results) say(r.command, r.rowCount, r.rows)
    } catch (e) {
      say('error', e.code, e.severity, e.message)
    }
  }
  const insert = (m) => ({ name: 'insert', text: 'insert into item (id, owner, title) values ($1, $2, $3)', values: [n * 1000 + k * 10 + m, n, `${m}`] })
  await ask("select current_setting('search_path'), current_user::text, current_setting('statement_timeout')")
  await ask(`set search_path to ${who.schema}; set timezone to '${who.zone}'`)
  await ask("select set_config('statement_timeout', $1, false)", [`${20000 + n}`])
  await ask(`set role ${who.role}`)
  await ask({ name: 'look', text: look })
  await ask('begin')
  for (let m = 0; m < 4; m++) await ask(insert(m))
  await ask("set local timezone to 'Asia/Kolkata'")
  await ask({ name: 'look', text: look })
  await ask(k % 2 ? 'commit' : 'rollback')
  await ask(insert(5))
  await ask(insert(5))
  // sent one behind the other: unnamed, named, several in one
  const asked = [['select $1::int + count(*) as n from here', [k]], [{ name: 'look', text: look }], ['show timezone; show search_path']]
  await Promise.all(asked.map((query) => ask(...query)))
  await ask('select id, title from item where owner = $1 order by id', [n])
  await ask({ text: 'select id, title from item where owner = $1 order by id', values: [n], rowMode: 'array' })
}

const leave = 'reset all; reset role'

async function alone(say, who, n) {
  const client = new Client(config)
  await client.connect()
  for (let k = 0; k < rounds; k++) {
    await visit(say, client, who, n, k)
    await client.query(leave)
  }
  await client.end()
}

async function pooled(pool, say, who, n) {
  for (let k = 0; k < rounds; k++) {
    const client = await pool.connect()
    await visit(say, client, who, n, k)
    await client.query(leave)
    client.release()
  }
}

async function main() {
  const pool = new Pool({ ...config, max: 5 })
  const said = await Promise.all(persons.map(async (who, n) => {
    const lines = []
    const say = (...words) => lines.push(words.map((w) => (typeof w === 'string' ? w : JSON.stringify(w))).join(' '))
    await (kind === 'pool' ? pooled(pool, say, who, n) : alone(say, who, n))
    return lines
  }))
  await pool.end()
  process.stdout.write(JSON.stringify(said))
}

main().catch((e) => { console.error(e); process.exit(1) })
