using Sconce.Engine.Execution;
using Sconce.Engine.Hooks;
using static Sconce.Engine.Tests.Execution.Testing;
using static Sconce.Engine.Tests.Hooks.ForwardHookTests;
using static Sconce.Engine.Tests.Hooks.HookTesting;

namespace Sconce.Engine.Tests.Hooks;

/// <summary>Hooks on the entries of state dicts.</summary>
public sealed class StateHookTests
{
    [Theory]
    [InlineData("0.weight", "")]
    [InlineData("", "line\nbreak.")]
    [InlineData("", "\u001b[2J")]
    public async Task A_key_that_could_not_be_is_not_made(string prefix, string replacement)
    {
        await using var host = Host();
        var module = await Doubler(host);
        if (replacement.Length > 0)
        {
            var error = await module.Register(On(HookSite.StateDict, "", new RenameAction(prefix, replacement))).Fails(EngineError.InvalidArgument, "control");
            Assert.Equal("hook.actions[0].rename.replacement", Assert.Single(error.Fields).Field);
            return;
        }

        await module.Register(On(HookSite.StateDict, "", new RenameAction(prefix, replacement)));
        Assert.Equal(["0.weight", "0.bias"], await Keys(module));
        Assert.Contains("empty", Assert.Single((await module.ListHooksAsync("", default)).Hooks).Detached!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Keys_do_not_grow_without_end()
    {
        await using var host = Host();
        var module = await Doubler(host);
        var rename = new RenameAction("", new string('a', 8192));
        await module.Register(On(HookSite.StateDict, "", [.. Enumerable.Repeat(rename, 64)]));
        Assert.Equal(["0.weight", "0.bias"], await Keys(module));
        Assert.Contains("8192", Assert.Single((await module.ListHooksAsync("", default)).Hooks).Detached!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_load_sees_the_keys_that_a_hook_makes_of_those_that_came()
    {
        await using var host = Host();
        var module = await Doubler(host);
        await module.Register(On(HookSite.LoadStateDictPre, "", new RenameAction("model.", ""), new MulAction(Number(3))));
        await module.Fill(host, "model.0.bias", [2], 1, 2);
        Same(await module.Forward(Floats([1, 2], 0, 0)), 3f, 6f);
    }

    private static async Task<IEnumerable<string>> Keys(HostedModule module)
    {
        using var state = await module.GetStateAsync("", [], default);
        return [.. state.Entries.Select(entry => entry.Key)];
    }
}
