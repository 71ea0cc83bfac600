import { expect, onTestFinished, test } from 'vitest';
import { NbdInput } from '../../../../src/chunks/input/nbd-input.js';
import { createScope } from '../../../support/cleanup.js';
import { NBD_CMD_WRITE } from '../../../support/nbd-numbers.js';
import { until } from '../../../support/run/until.js';
import { answerAll, startScriptedServer } from '../../../support/scripted-server.js';

test('a flush that waits for a change when the server is lost counts as lost, too', async () => {
  const server = await startScriptedServer(createScope(), { size: 2n ** 20n });
  const input = await NbdInput.open({
    server: { uri: server.uri },
    connections: undefined,
    onEnd: async () => undefined,
  });
  onTestFinished(() => input.close());
  const client = await input.client();
  await client.write(0, Buffer.alloc(512));
  server.handler = (request, reply) => {
    if (request.type !== NBD_CMD_WRITE) answerAll(request, reply);
  };
  const writing = client.write(4096, Buffer.alloc(512)).catch((error) => input.lossOf(error));
  await until('the write', () => server.requests.length === 2);
  const flushing = client.flush().catch((error) => input.lossOf(error));
  server.die();
  expect([await writing, await flushing]).toMatchObject([
    { isLost: true },
    { isLost: true, code: 'ENOTCONN' },
  ]);
});
