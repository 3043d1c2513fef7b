#!/usr/bin/env python3
"""Compiles every CUDA kernel for every generation since Ampere and compares what it needs with the table of docs/kernels.md.

    tests/cuda/compile_gate.py [--cache FOLDER]     checks; exit code 77 where there is no nvcc
    tests/cuda/compile_gate.py --write              writes the tables into docs/kernels.md

Fails on local memory (a stack frame or a spill), on more registers or shared memory than the table says, on a kernel that the
table does not have, and on more than 40 MB of device code. Results are kept by the hash of a source and of the headers it takes in.
Where there is a cuobjdump (on PATH, or named by ORRERY_CUOBJDUMP) it is asked the same of the finished code, and must agree with
ptxas: not every toolkit has one.
"""
import argparse, concurrent.futures, hashlib, json, os, pathlib, re, shutil, subprocess, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import rooflines

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOC = ROOT / 'docs/kernels.md'
ARCHITECTURES = [80, 86, 89, 90, 100, 120]
MOST_BYTES = 40 << 20
SKIP = 77
# Per multiprocessor: threads, blocks, shared memory in bytes.
MACHINES = {80: (2048, 32, 164 << 10), 86: (1536, 16, 100 << 10), 89: (1536, 24, 100 << 10), 90: (2048, 32, 228 << 10),
            100: (2048, 32, 228 << 10), 120: (1536, 24, 100 << 10)}


def headers():
    kernels = ROOT / 'kernels'
    return [p for p in sorted(kernels.rglob('*')) if p.suffix in ('.h', '.cuh')]


def included(path):
    """A source and all headers of ours that it takes in."""
    seen, todo = [], [path]
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.append(here)
        for name in re.findall(r'#include [<"](kernels/[^>"]+|simt\.h)[>"]', here.read_text()):
            todo.append(ROOT / ('kernels/cuda/device/simt.h' if name == 'simt.h' else name))
    return sorted(seen)


def short_name(mangled):
    """_ZN6orrery7kernels19cached_conv3d_kernelINS0_8BFloat16ELb1EEEv… -> cached_conv3d<BFloat16, 1>"""
    rest = mangled[len('_ZN6orrery7kernels'):]
    length = re.match(r'\d+', rest).group()
    name, rest = rest[len(length):len(length) + int(length)], rest[len(length) + int(length):]
    arguments = []
    if rest.startswith('I'):
        rest = rest[1:]
        while not rest.startswith('E'):
            for pattern, say in ((r'f', lambda m: 'float'), (r'a', lambda m: 'int8'), (r'L[ibj](\d+)E', lambda m: m.group(1)),
                                 (r'NS0_(\d+)', None)):
                match = re.match(pattern, rest)
                if not match:
                    continue
                if say:
                    arguments.append(say(match))
                    rest = rest[match.end():]
                else:
                    size = int(match.group(1))
                    arguments.append(rest[match.end():match.end() + size])
                    rest = rest[match.end() + size + 1:]
                break
            else:
                raise ValueError(f'{mangled}: {rest}')
    name = name.removesuffix('_kernel')
    return f'{name}<{", ".join(arguments)}>' if arguments else name


def block_sizes():
    sizes = {}
    for path in headers():
        for bound, name in re.findall(r'__launch_bounds__\((\d+)[^)]*\)\s*(\w+)_kernel', path.read_text()):
            sizes[name] = int(bound)
    return sizes


def output_of(*command):
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f'{command[0]} failed\n{run.stderr}')
    return run.stdout


def dumped(text):
    """What cuobjdump --dump-resource-usage says: {kernel: {architecture: [registers, stack bytes, local bytes]}}"""
    kernels, architecture = {}, None
    for match in re.finditer(r'arch = sm_(\d+)|Function (\w+):\s*REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)', text):
        if match[1]:
            architecture = match[1]
        else:
            kernels.setdefault(short_name(match[2]), {})[architecture] = [int(match[i]) for i in (3, 4, 5)]
    return kernels


def disagreements(kernels, dump):
    """How the finished code differs from what ptxas said of it."""
    for name, by_architecture in sorted(kernels.items()):
        for architecture, (registers, _, _, _) in by_architecture.items():
            got = dump.get(name, {}).get(architecture)
            if got != [registers, 0, 0]:
                yield (f'{name} for sm_{architecture}: cuobjdump says ' +
                       (f'{got[0]} registers, {got[1]} bytes of stack, {got[2]} of local memory' if got else 'nothing of it') +
                       f', expected {registers}, 0 and 0')


def compiled(source, nvcc, cuobjdump, version, cache):
    """{kernel: {architecture: [registers, shared bytes, stack bytes, spilled bytes]}}, bytes of code, what cuobjdump says"""
    digest = hashlib.sha256(f'{version} {ARCHITECTURES}'.encode())
    for path in included(source):
        digest.update(path.read_bytes())
    kept = cache / f'{source.stem}-{digest.hexdigest()[:24]}.json'
    if kept.exists():
        return json.loads(kept.read_text())
    with tempfile.TemporaryDirectory() as folder:
        codes = [f'-gencode=arch=compute_{a},code=sm_{a}' for a in ARCHITECTURES]
        run = subprocess.run([nvcc, '-std=c++20', f'-I{ROOT}', f'-I{ROOT}/kernels/cuda/device', '-Xptxas', '-v', '-fatbin', *codes,
                              str(source), '-o', f'{folder}/code'], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f'{source}: nvcc failed\n{run.stderr}')
        size = os.path.getsize(f'{folder}/code')
        dump = dumped(output_of(cuobjdump, '--dump-resource-usage', f'{folder}/code')) if cuobjdump else {}
    kernels = {}
    for text in run.stderr.split('Compiling entry function ')[1:]:
        name, architecture = re.match(r"'(\w+)' for 'sm_(\d+)", text).groups()
        number = lambda pattern: int((re.search(pattern, text) or [0, 0])[1])
        kernels.setdefault(short_name(name), {})[architecture] = [
            number(r'Used (\d+) registers'), number(r'(\d+) bytes smem'), number(r'(\d+) bytes stack frame'),
            number(r'(\d+) bytes spill stores') + number(r'(\d+) bytes spill loads')]
    result = [kernels, size, dump]
    cache.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result))
    return result


def occupancy(architecture, registers, shared, threads):
    most_threads, most_blocks, most_shared = MACHINES[architecture]
    warps = (threads + 31) // 32
    by_registers = 65536 // ((registers + 7) // 8 * 8 * 32) // warps
    by_shared = most_shared // (shared + 1024) if shared else most_blocks
    return min(most_threads // threads, most_blocks, by_registers, by_shared) * threads * 100 // most_threads


def table(kernels):
    sizes = block_sizes()
    lines = ['| kernel | threads | shared memory | ' + ' | '.join(f'sm_{a}' for a in ARCHITECTURES) + ' |',
             '|---|---|---|' + '---|' * len(ARCHITECTURES)]
    for name, by_architecture in sorted(kernels.items()):
        threads = sizes[name.split('<')[0]]
        shared = max(v[1] for v in by_architecture.values())
        cells = [f'{by_architecture[str(a)][0]}, {occupancy(a, by_architecture[str(a)][0], shared, threads)} %' for a in ARCHITECTURES]
        lines.append(f'| `{name}` | {threads} | {shared} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def allowed():
    rows = {}
    section = DOC.read_text().split('<!-- resources -->')[1].split('<!-- end of resources -->')[0]
    for line in section.splitlines():
        cells = [c.strip() for c in line.strip('|').split('|')]
        if len(cells) == 3 + len(ARCHITECTURES) and cells[0].startswith('`'):
            rows[cells[0].strip('`')] = (int(cells[2]), [int(c.split(',')[0]) for c in cells[3:]])
    return rows


def put(text, name, body):
    begin, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    head, rest = text.split(begin)
    return head + begin + '\n' + body + '\n' + end + rest.split(end)[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--write', action='store_true')
    parser.add_argument('--cache', type=pathlib.Path, default=ROOT / 'build/cuda_gate')
    options = parser.parse_args()
    nvcc = shutil.which('nvcc') or shutil.which('/usr/local/cuda/bin/nvcc')
    if not nvcc:
        print('skipped: there is no nvcc on this machine')
        return SKIP
    cuobjdump = os.environ.get('ORRERY_CUOBJDUMP') or shutil.which('cuobjdump')
    version = output_of(nvcc, '--version') + (output_of(cuobjdump, '--version') if cuobjdump else '')
    sources = sorted((ROOT / 'kernels/cuda').glob('*.cu'))
    kernels, size, dump = {}, 0, {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for found, bytes_of_code, *seen in pool.map(lambda s: compiled(s, nvcc, cuobjdump, version, options.cache), sources):
            kernels.update(found)
            size += bytes_of_code
            dump.update(*seen)
    if options.write:
        text = put(DOC.read_text(), 'resources', table(kernels))
        DOC.write_text(put(text, 'rooflines', rooflines.table()))
    problems, rows = [], allowed()
    for name, by_architecture in sorted(kernels.items()):
        for index, architecture in enumerate(ARCHITECTURES):
            registers, shared, stack, spilled = by_architecture[str(architecture)]
            where = f'{name} for sm_{architecture}'
            if stack or spilled:
                problems.append(f'{where}: uses local memory ({stack} bytes of stack, {spilled} spilled)')
            if name not in rows:
                problems.append(f'{where}: has no row in docs/kernels.md')
            elif registers > rows[name][1][index] or shared > rows[name][0]:
                problems.append(f'{where}: {registers} registers and {shared} bytes of shared memory, the table allows '
                                f'{rows[name][1][index]} and {rows[name][0]}')
    problems += [f'{name}: is in docs/kernels.md and not among the kernels' for name in rows if name not in kernels]
    if cuobjdump:
        problems += disagreements(kernels, dump)
    if size > MOST_BYTES:
        problems.append(f'{size} bytes of device code, more than {MOST_BYTES}')
    print('\n'.join(problems) or f'{len(kernels)} kernels for {len(ARCHITECTURES)} architectures: no local memory'
          f'{", as cuobjdump sees it too" if cuobjdump else ""}, {size / 1e6:.1f} MB of device code')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
