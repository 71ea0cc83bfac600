// The worker's thread: started by the main thread, given its settings by the first message.

import { BridgeWorker } from './bridge-worker.js';
import type { WorkerSettings } from './messages.js';
import { runThread } from './thread.js';
import { realWorld } from './world.js';

runThread((port, settings: WorkerSettings) =>
  new BridgeWorker(settings, realWorld(port, settings.wake)).run(),
);
