namespace Sconce.Server.Tests.Wire;

/// <summary>Waits, within bounds, for what happens after an answer was sent.</summary>
internal static class Eventually
{
    public static async Task TrueAsync(Func<Task<bool>> condition)
    {
        for (var i = 0; i < 200; i++)
        {
            if (await condition())
            {
                return;
            }

            await Task.Delay(50);
        }

        Assert.Fail("did not become true within 10 s");
    }
}
