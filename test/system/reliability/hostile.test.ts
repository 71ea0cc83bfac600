// Servers that break the protocol while a disk is in use: no program gets a wrong byte, one line names the
// rule, and nbdfuse neither crashes nor hangs nor grows.

import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../../src/client/client.js';
import { NbdProtocolError } from '../../../src/nbd/errors.js';
import { createScope } from '../../support/cleanup.js';
import { readAt } from '../../support/files.js';
import { NBD_CMD_READ } from '../../support/nbd-numbers.js';
import { REPLY_BREACHES, type ReplyBreach } from '../../support/reply-breaches.js';
import { type MountedDisk, mountDisk } from '../../support/run/mount.js';
import { until } from '../../support/run/until.js';
import {
  answerAll,
  type ReplyWriter,
  type RequestHandler,
  startScriptedServer,
} from '../../support/scripted-server.js';
import type { ScriptedRequest } from '../../support/scripted-wire.js';

const MIB = 1024 * 1024;
const AT_ONCE = ['--reconnect=0', '--cache=none'];

function right(request: ScriptedRequest, reply: ReplyWriter): void {
  if (request.type === NBD_CMD_READ) reply.data(Buffer.alloc(request.length, 'right'));
  else answerAll(request, reply);
}

/** Answers the first READ correctly, and every other one with the breach, until the test stops that. */
function breaking({ answer }: ReplyBreach): { handler: RequestHandler; repent(): void } {
  let before: ScriptedRequest | undefined;
  let isOver = false;
  return {
    repent: () => {
      isOver = true;
    },
    handler: (request, reply) => {
      if (request.type !== NBD_CMD_READ || isOver || before === undefined) right(request, reply);
      else answer(request, reply, before);
      if (request.type === NBD_CMD_READ) before ??= request;
    },
  };
}

/** Every line is a known message, without control characters. */
function checkLines(stderr: string): void {
  const lines = stderr.trimEnd().split('\n');
  for (const line of lines) expect(line).toMatch(/^nbdfuse: [^\p{Cc}\p{Cf}]+$/u);
  expect(lines.length).toBeLessThan(20);
}

/** Reads until nbdfuse has reconnected. */
async function readWhenHealed({ file }: MountedDisk): Promise<Buffer> {
  let bytes: Buffer | undefined;
  const attempt = async (): Promise<boolean> => {
    bytes = await readAt(file, 8192, 4096).catch(() => undefined);
    return bytes !== undefined;
  };
  await until('a read that works', attempt);
  return bytes ?? Buffer.alloc(0);
}

describe('server that breaks a rule in its reply to a READ', () => {
  it.each(REPLY_BREACHES)(
    'gives the reader EIO or the right data, and the next connection works: $name',
    async (breach) => {
      const scope = createScope();
      const { handler, repent } = breaking(breach);
      const served = { size: BigInt(MIB), structuredReplies: true, ...breach.served };
      const server = await startScriptedServer(scope, served, handler);
      const disk = await mountDisk(scope, { server: [server.uri], options: AT_ONCE });
      const expected = Buffer.alloc(4096, 'right');
      expect((await readAt(disk.file, 4096, 4096)).equals(expected)).toBe(true);
      const outcome = await readAt(disk.file, 65_536, 4096).catch(({ code }: NodeJS.ErrnoException) => code);
      if (outcome !== 'EIO') expect(outcome).toEqual(expected);
      repent();
      expect((await readWhenHealed(disk)).equals(expected)).toBe(true);
      expect(disk.stderr).toMatch(breach.rule);
      checkLines(disk.stderr);
      expect(await disk.stop()).toBe(0);
    },
  );

  it('makes the library reject its requests with the rule', async () => {
    for (const breach of REPLY_BREACHES) {
      const scope = createScope();
      const { handler } = breaking(breach);
      const served = { size: BigInt(MIB), structuredReplies: true, ...breach.served };
      const server = await startScriptedServer(scope, served, handler);
      const client = await NbdClient.connect({ unix: server.socketPath });
      scope.add(() => client.close());
      expect((await client.read(4096, 4096)).equals(Buffer.alloc(4096, 'right'))).toBe(true);
      const failure = await client.read(65_536, 4096).catch((error: unknown) => error);
      // It may get a correct reply before the breach; then the breach closes the client.
      const reason = failure instanceof Error ? failure : await client.closed;
      expect(reason, breach.name).toBeInstanceOf(NbdProtocolError);
      expect(reason.message).toMatch(breach.rule);
    }
  });
});
