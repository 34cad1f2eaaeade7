using CsCheck;
using Sconce.Engine.Hooks;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Properties;

/// <summary>Whatever is registered and removed in whatever order, hooks run as a list sorted by priority and then by registration.</summary>
public sealed class HookProperties
{
    private enum Kind
    {
        Add,
        Negate,
        Set,
        Remove,
        Once,
    }

    private static readonly Gen<(Kind Kind, int Number, int Priority)[]> Steps =
        Gen.Select(Gen.Enum<Kind>(), Gen.Int[-9, 9], Gen.Int[-2, 2]).Array[1, 25];

    [Fact]
    public async Task The_order_is_that_of_a_sorted_list() => await Steps.SampleAsync(async steps =>
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Of("Identity"));
        var model = new List<(string Id, int Priority, Func<float, float> Edit, bool Once)>();
        var made = 0;
        foreach (var (kind, number, priority) in steps)
        {
            if (kind == Kind.Remove)
            {
                if (model.Count > 0)
                {
                    var at = (number + 9) % model.Count;
                    await module.RemoveHookAsync(model[at].Id, null, default);
                    model.RemoveAt(at);
                }
            }
            else
            {
                var id = $"h{made++}";
                var (action, edit) = Edit(kind, number);
                var spec = On(HookSite.Forward, "", action) with { Id = id, Priority = priority, When = kind == Kind.Once ? new HookWhen(MaxFires: 1) : HookWhen.Always };
                await module.Register(spec);
                model.Add((id, priority, edit, kind == Kind.Once));
            }

            var expected = model.OrderBy(hook => hook.Priority).Aggregate(1f, (value, hook) => hook.Edit(value));
            model = [.. model.Select(hook => hook.Once ? hook with { Edit = value => value } : hook)];
            Same(await module.Forward(Floats([1], 1)), expected);
            Assert.Equal(model.OrderBy(hook => hook.Priority).Select(hook => hook.Id), (await module.ListHooksAsync("", default)).Hooks.Select(hook => hook.Spec.Id));
        }
    }, iter: 60, threads: 1);

    private static (HookAction Action, Func<float, float> Edit) Edit(Kind kind, int number) => kind switch
    {
        Kind.Negate => (new MulAction(Number(-1)), value => -value),
        Kind.Set => (new SetAction(Number(number)), _ => number),
        _ => (new AddAction(Number(number)), value => value + number),
    };
}
