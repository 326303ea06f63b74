from softdimo_jax.planning.hlo import traffic

MODULE = '''
HloModule step, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%shrink (s: f32[3,8,4], x: f32[8,4], i: s32[]) -> bf16[2,4] {
  %s = f32[3,8,4]{2,1,0} parameter(0)
  %t = f32[3,8,4]{2,1,0} bitcast(%s)
  %y = f32[8,4]{1,0} parameter(1)
  %j = s32[] parameter(2)
  %layer = f32[1,8,4]{2,1,0} fusion(%t, %j), kind=kLoop, calls=%take
  ROOT %small = bf16[2,4]{1,0} custom(%layer, %y)
}

%take (u: f32[3,8,4], l: s32[]) -> f32[1,8,4] {
  %u = f32[3,8,4]{2,1,0} parameter(0)
  %l = s32[] parameter(1)
  ROOT %taken = f32[1,8,4]{2,1,0} dynamic-slice(%u, %l)
}

%store (b: f32[3,8,4], w: bf16[8,4], i: s32[]) -> f32[3,8,4] {
  %b = f32[3,8,4]{2,1,0} parameter(0)
  %w = bf16[8,4]{1,0} parameter(1)
  %k = s32[] parameter(2)
  %update = f32[1,8,4]{2,1,0} convert(%w)
  %new = f32[3,8,4]{2,1,0} dynamic-update-slice(%b, %update, %k)
  ROOT %same = f32[3,8,4]{2,1,0} bitcast(%new)
}

%body (carry: (s32[], f32[8,4], f32[3,8,4])) -> (s32[], f32[8,4], f32[3,8,4]) {
  %carry = (s32[], f32[8,4]{1,0}, f32[3,8,4]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%carry), index=1
  %stack = f32[3,8,4]{2,1,0} get-tuple-element(%carry), index=2
  %part = bf16[2,4]{1,0} fusion(%stack, %x, %i), kind=kLoop, calls=%shrink
  %start = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(\
%part), dimensions={0}
  %whole = bf16[8,4]{1,0} all-gather-done(%start)
  %next = f32[3,8,4]{2,1,0} fusion(%stack, %whole, %i), kind=kLoop, calls=%store
  ROOT %out = (s32[], f32[8,4]{1,0}, f32[3,8,4]{2,1,0}) tuple(%i, %x, %next)
}

%condition (carry: (s32[], f32[8,4], f32[3,8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0}, f32[3,8,4]{2,1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %empty = f32[3,8,4]{2,1,0:S(1)} broadcast(%zero)
  %first = (s32[], f32[8,4]{1,0}, f32[3,8,4]{2,1,0}) tuple(%zero, %p, %empty)
  %loop = (s32[], f32[8,4]{1,0}, f32[3,8,4]{2,1,0}) while(\
%first), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %last = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  %fetched = (f32[8,4]{1,0}, f32[8,4]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%last)
  ROOT %all = f32[8,4]{1,0} all-reduce(\
%last), replica_groups={{0,1}}, to_apply=%add
}
'''  # fmt: skip


def test_loops_count_as_often_as_they_run():
  found = traffic(MODULE)
  assert found.collectives == {'all-gather': 3 * 64, 'all-reduce': 128}
  # A layer of the stack, x, the counter; the gather; a layer written in place.
  loop = (128 + 128 + 4 + 16) + (16 + 16 + 64) + (64 + 4 + 128)
  # The stack is begun on the chip, of a counter in HBM.
  assert found.memory == 3 * loop + 4 + 128 + 2 * 128


def test_the_counter_s_limit_tells_when_nothing_else_does():
  bare = MODULE.replace(
    'backend_config={"known_trip_count":{"n":"3"}}', 'metadata={}'
  ).replace('constant(true)', 'constant(3)')
  assert traffic(bare) == traffic(MODULE)
