import { describe, expect, it } from 'vitest';
import { endpointOf } from '../../../../src/session/connect/endpoint.js';
import type { ServerMode } from '../../../../src/session/settings.js';

function endpointFor(server: ServerMode, exportName?: string) {
  const lines: string[] = [];
  const details: string[] = [];
  const report = {
    line: (text: string) => lines.push(text),
    detail: (text: string) => details.push(text),
  };
  return { endpoint: endpointOf({ server, exportName }, report), lines, details };
}

describe('endpoint of the settings', () => {
  it.each<ServerMode>([
    { kind: 'tcp', host: 'h', port: 1 },
    { kind: 'unix', path: 's' },
    { kind: 'vsock', cid: 2, port: 3 },
    { kind: 'fd', fd: 3 },
    { kind: 'command', argv: ['a'] },
    { kind: 'socket-activation', argv: ['a'] },
  ])('is that of the mode, with the requested export: $kind', (server) => {
    expect(endpointFor(server).endpoint).toEqual({ target: server, exportName: '', tls: undefined });
    expect(endpointFor(server, 'disk').endpoint.exportName).toBe('disk');
  });

  it('follows the URI', () => {
    const { endpoint } = endpointFor({ kind: 'uri', uri: 'nbd+unix:///disk?socket=/run/s' });
    expect(endpoint.target).toEqual({ kind: 'unix', path: '/run/s' });
    expect(endpoint.exportName).toBe('disk');
  });

  it('comes with a warning about parameters without effect', () => {
    const { lines, details } = endpointFor({ kind: 'uri', uri: 'nbd://h/?colour=red&x-mood=blue' });
    expect(lines).toEqual(['the URI parameter colour is unknown and has no effect']);
    expect(details).toEqual(['the URI parameter x-mood is unknown and has no effect']);
  });

  it('fails for a text that is no URI', () => {
    expect(() => endpointFor({ kind: 'uri', uri: 'disk.qcow2' })).toThrow(/URI/);
  });
});
