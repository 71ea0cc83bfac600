// The manners in which a connection ends, each as the server and the owner see it.

import { describe, expect, test } from 'vitest';
import { addressOf, libc } from '../../../../src/linux/libc.js';
import { closeDescriptor, setNonBlocking, socketpair } from '../../../../src/linux/socket.js';
import { NBD_CMD_FLUSH } from '../../../../src/nbd/constants.js';
import { PlainChannel } from '../../../../src/worker/connection/channel.js';
import { Connection, type ConnectionEnd } from '../../../../src/worker/connection/connection.js';
import { CommandTable } from '../../../../src/worker/flight/nbd-command.js';
import { BufferPool } from '../../../../src/worker/memory/buffer-pool.js';
import { PLAIN_EXPORT } from '../../../support/export-info.js';

const REQUEST = 28;

/** A connection over a socketpair, and the reports to its owner. */
class Rig {
  readonly reports: string[] = [];
  readonly connection: Connection;
  readonly commands = new CommandTable();
  readonly #far: number;
  #isClosed = false;

  constructor() {
    const [near, far] = socketpair();
    this.#far = far;
    setNonBlocking(near);
    setNonBlocking(far);
    const sink = {
      find: () => undefined,
      data: () => undefined,
      wholeData: () => undefined,
      hole: () => undefined,
      extents: () => undefined,
      finished: () => undefined,
      placePayload: () => 0,
      splicePayload: () => 0,
    };
    this.connection = new Connection(
      new PlainChannel(near, undefined),
      { number: 1, arrival: 1 },
      PLAIN_EXPORT,
      sink,
      {
        buffers: new BufferPool(1024 * 1024),
        connectionLost: (_connection, { why, ...facts }) => {
          const names = Object.entries(facts).flatMap(([name, is]) => (is ? [name] : []));
          this.reports.push(['lost', why, ...names].join(': '));
        },
        connectionClosed: () => this.reports.push('closed'),
        moved: () => undefined,
      },
    );
  }

  /** A command whose bytes are all in the socket. */
  send(): void {
    const command = this.commands.take();
    command.type = NBD_CMD_FLUSH;
    this.connection.enqueue(command, 0);
    this.connection.flush();
  }

  /** The types of the requests that the server has received, and `end` if the connection is closed. */
  seen(): (number | 'end')[] {
    const bytes = new Uint8Array(new ArrayBuffer(1024));
    const count = libc.recv(this.#far, addressOf(bytes), bytes.length, 0);
    const view = new DataView(bytes.buffer);
    const types = Array.from({ length: Math.max(0, count) / REQUEST }, (_, i) =>
      view.getUint16(i * REQUEST + 6),
    );
    const isEnd = count === 0 || libc.recv(this.#far, addressOf(bytes), 1, 0) === 0;
    return isEnd ? [...types, 'end'] : types;
  }

  hangUp(): void {
    if (!this.#isClosed) closeDescriptor(this.#far);
    this.#isClosed = true;
  }
}

const MANNERS: readonly ConnectionEnd[] = [
  { manner: 'finished' },
  { manner: 'given up', why: 'no answer' },
  { manner: 'aborted', why: 'too late' },
  { manner: 'broken', why: 'wrong magic', breach: true },
];

function withRig(run: (rig: Rig) => void): void {
  const rig = new Rig();
  try {
    run(rig);
  } finally {
    rig.connection.end({ manner: 'finished' });
    rig.hangUp();
  }
}

describe('the end of a connection', () => {
  test('finished: sends NBD_CMD_DISC, closes, and reports nothing', () => {
    withRig((rig) => {
      rig.connection.end({ manner: 'finished' });
      expect(rig.seen()).toEqual([2, 'end']);
      expect(rig.reports).toEqual([]);
      expect(rig.connection.lost).toBe(true);
    });
  });

  test('given up: takes no more commands and stays open until a second end', () => {
    withRig((rig) => {
      rig.send();
      rig.connection.end({ manner: 'given up', why: 'no answer' });
      rig.connection.end({ manner: 'given up', why: 'again' });
      expect(rig.seen()).toEqual([3]);
      expect(rig.reports).toEqual(['lost: no answer']);
      expect([rig.connection.lost, rig.connection.closing]).toEqual([true, true]);
      expect(() => rig.send()).toThrow('a connection that is lost gets no commands');
      rig.hangUp();
      rig.connection.receive(0);
      expect(rig.reports).toEqual(['lost: no answer', 'closed']);
      expect(rig.connection.closing).toBe(false);
    });
  });

  test('given up, then finished: sends NBD_CMD_DISC after the requests', () => {
    withRig((rig) => {
      rig.send();
      rig.connection.end({ manner: 'given up', why: 'no answer' });
      rig.connection.end({ manner: 'finished' });
      expect(rig.seen()).toEqual([3, 2, 'end']);
    });
  });

  test('aborted: closes in the middle of requests and reports the loss once', () => {
    withRig((rig) => {
      rig.send();
      rig.connection.end({ manner: 'aborted', why: 'too late' });
      expect(rig.seen().at(-1)).toBe('end');
      expect(rig.reports).toEqual(['lost: too late']);
    });
  });

  test('other disk: reports that, and no progress', () => {
    withRig((rig) => {
      rig.connection.end({ manner: 'other disk', why: 'the blocks differ' });
      expect(rig.seen()).toEqual([2, 'end']);
      expect(rig.reports).toEqual(['lost: the blocks differ: otherDisk']);
    });
  });

  test('broken: sends nothing more, and reports the loss and a breach of the protocol', () => {
    withRig((rig) => {
      rig.send();
      rig.connection.end({ manner: 'broken', why: 'wrong magic', breach: true });
      expect(rig.seen()).toEqual([3, 'end']);
      expect(rig.reports).toEqual(['lost: wrong magic: breach']);
    });
  });

  test('closed by the server: is a loss without a breach', () => {
    withRig((rig) => {
      rig.hangUp();
      rig.connection.receive(0);
      expect(rig.reports).toEqual(['lost: the server closed the connection: madeProgress']);
    });
  });

  test('any manner, after the connection is closed: does nothing', () => {
    for (const first of MANNERS.filter(({ manner }) => manner !== 'given up')) {
      withRig((rig) => {
        rig.connection.end(first);
        const reports = [...rig.reports];
        for (const second of MANNERS) rig.connection.end(second);
        expect(rig.reports).toEqual(reports);
      });
    }
  });
});
