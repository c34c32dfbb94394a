// Makes the newest build in dist/ out of src/: `make widget`. With a folder as an argument it is
// made there instead, which is how a test compares.
//
// Each file is bundled and minified to es2017. Who pins like.js by its hash pins the scripts that it
// loads: their hashes are in it. What a build consists of is noted in hashes.json: that is how a
// test knows that a frozen one was never touched.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const HERE = dirname(fileURLToPath(import.meta.url));
const BUILD = 'v1.1'; // the one that may still change; all others in dist/ are frozen

const hash = (kind, content) => `${kind}-${createHash(kind).update(content).digest('base64')}`;

const made = {};
const build = (from, name, define = {}) => {
  const script = name.endsWith('.js');
  const { outputFiles } = buildSync({
    entryPoints: [join(HERE, 'src', from)],
    bundle: true,
    minify: true,
    write: false,
    charset: 'utf8',
    legalComments: 'none',
    mangleProps: /[a-z]_$/, // nobody outside of a file sees these
    logLevel: 'warning',
    ...(script
      ? {
          target: 'es2017',
          format: 'iife',
          banner: { js: `/* Dianzan ${BUILD}, Apache-2.0 */` },
          define: { BUILD: JSON.stringify(BUILD), ...define },
        }
      : { target: ['chrome61', 'safari11', 'firefox60'] }),
  });
  made[name] = Buffer.from(outputFiles[0].contents);
  return JSON.stringify(hash('sha256', made[name]));
};

build('like.css', 'like.css');
build('wall.css', 'like-wall.css');
build('like.ts', 'like.js', {
  WALL_HASH: build('wall.ts', 'like-wall.js'),
  MORE_HASH: build('more.ts', 'like-more.js', {
    WORK_HASH: build('work.ts', 'like-work.js'),
  }),
});

const folder = process.argv[2] || join(HERE, 'dist', BUILD);
mkdirSync(folder, { recursive: true });
for (const [name, content] of Object.entries(made)) writeFileSync(join(folder, name), content);

if (!process.argv[2]) {
  const noted = join(HERE, 'dist', 'hashes.json');
  const all = JSON.parse(readFileSync(noted, 'utf8'));
  all[BUILD] = {};
  for (const name of Object.keys(made).sort()) {
    all[BUILD][name] = { sha256: hash('sha256', made[name]), sha384: hash('sha384', made[name]) };
  }
  writeFileSync(noted, JSON.stringify(all, null, 2) + '\n');
}
