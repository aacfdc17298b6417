// What every client is asked for, with kafkajs: flows.js BOOTSTRAP. Each flow prints "ok NAME" or "FAIL NAME: WHY".
const { Kafka, logLevel, CompressionTypes } = require("kafkajs");

const bootstrap = process.argv[2];
const kafka = new Kafka({ clientId: "flows", brokers: bootstrap.split(","), logLevel: logLevel.NOTHING });
const COUNT = 300;
const LIMIT = 60000;
let next = 0;
const fresh = (what) => `${what}-${process.pid}-${next++}`;
const values = () => Array.from({ length: COUNT }, (_, number) => `value ${number}`);

function equal(found, wanted, what) {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(`${what}: ${JSON.stringify(found)}`);
}

async function flow(name, work) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("not done in time")), 2 * LIMIT); });
  try {
    await Promise.race([work(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAIL ${name}: ${String(error).replace(/\s+/g, " ")}`);
  }
  clearTimeout(timer);
}

async function withAdmin(work) {
  const admin = kafka.admin();
  await admin.connect();
  try { return await work(admin); } finally { await admin.disconnect(); }
}

async function topic(partitions = 3) {
  const name = fresh("kafkajs");
  await withAdmin((admin) => admin.createTopics({ topics: [{ topic: name, numPartitions: partitions }], waitForLeaders: true }));
  return name;
}

async function send(name, settings = {}, compression = CompressionTypes.None) {
  const producer = kafka.producer(settings);
  await producer.connect();
  const messages = values().map((value) => ({ key: value, value, headers: { n: "1" } }));
  await producer.send({ topic: name, messages, compression, acks: -1 });
  await producer.disconnect();
}

async function read(name, groupId, count = COUNT) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10000 });
  await consumer.connect();
  await consumer.subscribe({ topics: [name], fromBeginning: true });
  const found = [];
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${found.length} of ${count} records`)), LIMIT);
    consumer.run({
      eachMessage: async ({ message }) => {
        found.push(message.value.toString());
        if (found.length === count) { clearTimeout(timer); resolve(); }
      },
    }).catch(reject);
  }).finally(() => consumer.disconnect());
  return found;
}

async function main() {
  console.log(`version ${require("kafkajs/package.json").version}`);
  await flow("produce and consume, none and gzip", async () => {
    for (const codec of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const name = await topic();
      await send(name, {}, codec);
      equal((await read(name, fresh("group"))).sort(), values().sort(), "records");
    }
  });
  await flow("idempotent producer", async () => {
    const name = await topic();
    await send(name, { idempotent: true, maxInFlightRequests: 1 });
    equal((await read(name, fresh("group"))).length, COUNT, "records");
  });
  await flow("classic group: consume, commit, go on", async () => {
    const [name, group] = [await topic(), fresh("group")];
    await send(name);
    await read(name, group);
    const [told] = await withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [name] }));
    equal(told.partitions.reduce((sum, one) => sum + Number(one.offset), 0), COUNT, "committed");
    await send(name);
    equal((await read(name, group)).sort(), values().sort(), "records");
  });
  await flow("admin: groups", async () => {
    const [name, group] = [await topic(1), fresh("group")];
    await send(name);
    await read(name, group);
    await withAdmin(async (admin) => {
      equal((await admin.listGroups()).groups.some((one) => one.groupId === group), true, "it is listed");
      equal((await admin.describeGroups([group])).groups[0].state, "Empty", "state");
      await admin.setOffsets({ groupId: group, topic: name, partitions: [{ partition: 0, offset: "7" }] });
      const [told] = await admin.fetchOffsets({ groupId: group, topics: [name] });
      equal(told.partitions[0].offset, "7", "offset");
      await admin.deleteGroups([group]);
    });
  });
  await flow("admin: topics, partitions, configs, offsets, records", async () => {
    const name = await topic(1);
    await send(name);
    await withAdmin(async (admin) => {
      await admin.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] });
      const { topics } = await admin.fetchTopicMetadata({ topics: [name] });
      equal(topics[0].partitions.length, 4, "partitions");
      const entries = [{ name: "retention.ms", value: "86400000" }];
      await admin.alterConfigs({ resources: [{ type: 2, name, configEntries: entries }] });
      const told = await admin.describeConfigs({ resources: [{ type: 2, name, configNames: ["retention.ms"] }] });
      equal(told.resources[0].configEntries[0].configValue, "86400000", "retention.ms");
      const offsets = await admin.fetchTopicOffsets(name);
      equal(offsets.reduce((sum, one) => sum + Number(one.offset), 0), COUNT, "ends");
      await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: "5" }] });
      await admin.deleteTopics({ topics: [name] });
    });
  });
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
